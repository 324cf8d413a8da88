// Where cells lie: a head's keys are tiles of 16 slots, its values another run of such tiles. Of a type of cells,
// layout_<type> gives the tiles' words, store_<type> writes them, attend_<type> reads them.

fn keys_of(head: u32) -> u32 {
    return rows[p.layer] + head * (rows[p.layer + 1u] / 16u) * (key_tile() + value_tile());
}
fn values_of(head: u32) -> u32 { return keys_of(head) + rows[p.layer + 1u] / 16u * key_tile(); }
