const HAS_MINIMUM = false;
fn minimum(tile: u32, g: u32, q: u32) -> vec4<f32> { return vec4<f32>(0.0); }
