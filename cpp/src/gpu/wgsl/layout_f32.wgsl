// Keys [d][16 slots], values [slot][head_dim up to a multiple of 16]; floats.

fn key_tile() -> u32 { return 16u * p.head_dim; }
fn value_row() -> u32 { return (p.head_dim + 15u) / 16u * 16u; }
fn value_tile() -> u32 { return 16u * value_row(); }
