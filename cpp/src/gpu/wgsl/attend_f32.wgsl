// What attention reads of cells that are floats.

fn prepare_query(lane: u32) {}
fn score(keys: u32, slot: u32, q: u32) -> f32 {
    let at = keys + slot / 16u * key_tile() + slot % 16u;
    var sum = 0.0;
    for (var d = 0u; d < p.head_dim; d += 1u) { sum += query[q + d] * bitcast<f32>(cells[at + 16u * d]); }
    return sum;
}
fn two_values(values: u32, slot: u32, pair: u32) -> vec2<f32> {
    let at = values + slot / 16u * value_tile() + slot % 16u * value_row() + 2u * pair;
    return vec2<f32>(bitcast<f32>(cells[at]), bitcast<f32>(cells[at + 1u]));
}
