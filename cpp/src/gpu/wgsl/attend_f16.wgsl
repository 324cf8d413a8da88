// What attention reads of cells that are halves.

fn prepare_query(lane: u32) {}
fn score(keys: u32, slot: u32, q: u32) -> f32 {
    let at = keys + slot / 16u * key_tile() + slot % 16u / 2u;
    var sum = 0.0;
    for (var d = 0u; d < p.head_dim; d += 1u) {
        sum += query[q + d] * unpack2x16float(cells[at + 8u * d])[slot & 1u];
    }
    return sum;
}
fn two_values(values: u32, slot: u32, pair: u32) -> vec2<f32> {
    return unpack2x16float(cells[values + slot / 16u * value_tile() + slot % 16u * value_row() + pair]);
}
