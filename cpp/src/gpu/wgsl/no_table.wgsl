fn prepare(lane: u32) {}
