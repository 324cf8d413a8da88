// The nearest half, ties to even, as the processor rounds: pack2x16float may round otherwise.
fn half_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) { return sign | 0x7e00u; }
    if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; }
    if (magnitude < 0x38800000u) {  // below the smallest normal half: units of 2^-24, exact in float32
        return sign | u32(round(bitcast<f32>(magnitude) * 16777216.0));
    }
    return sign | ((magnitude + 0xfffu + ((magnitude >> 13u) & 1u) - 0x38000000u) >> 13u);
}

fn store_cells(head: u32, slot: u32, n: u32, value: u32, stride: u32, lane: u32) {
    let key = keys_of(head) + slot / 16u * key_tile() + slot % 16u / 2u;
    for (var d = lane; d < p.head_dim; d += LANES) {
        let x = half_bits(keys[0][d]);
        let old = cells[key + 8u * d];
        var word = x | (half_bits(keys[1][d]) << 16u);
        if (n == 1u) { word = select((old & 0xffff0000u) | x, (old & 0xffffu) | (x << 16u), (slot & 1u) == 1u); }
        cells[key + 8u * d] = word;
    }
    for (var i = 0u; i < n; i += 1u) {
        let source = value + i * stride;
        let to = values_of(head) + slot / 16u * value_tile() + (slot % 16u + i) * value_row();
        for (var pair = lane; 2u * pair < p.head_dim; pair += LANES) {
            let second = select(0u, half_bits(number(source + 2u * pair + 1u)), 2u * pair + 1u < p.head_dim);
            cells[to + pair] = half_bits(number(source + 2u * pair)) | (second << 16u);
        }
    }
}
