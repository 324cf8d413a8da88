// Tiles of 16 slots: a bfloat16 scale a group of 32 dimensions and slot, up to a multiple of 64 bytes; then codes,
// of keys as in q8_block32, of values a row a slot.

fn groups() -> u32 { return (p.head_dim + 31u) / 32u; }
fn codes_place() -> u32 { return (groups() + 1u) / 2u * 16u; }
fn value_row() -> u32 { return 8u * groups(); }
fn key_tile() -> u32 { return codes_place() + 128u * groups(); }
fn value_tile() -> u32 { return codes_place() + 16u * value_row(); }
