// The nearest bfloat16, ties to even.
fn bf16_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

// A slot's scale beside that of its neighbour in the word.
fn store_scale(at: u32, slot: u32, n: u32, first: u32, second: u32) {
    let old = cells[at];
    var word = first | (second << 16u);
    if (n == 1u) { word = select((old & 0xffff0000u) | first, (old & 0xffffu) | (first << 16u), (slot & 1u) == 1u); }
    cells[at] = word;
}

// Number d of the keys (0) or the values (1) of slot `slot + i`; 0 past the head.
fn stored_number(what: u32, i: u32, d: u32, value: u32, stride: u32) -> f32 {
    if (d >= p.head_dim) { return 0.0; }
    if (what == 0u) { return keys[i][d]; }
    return number(value + i * stride + d);
}

// A lane takes a group.
fn store_cells(head: u32, slot: u32, n: u32, value: u32, stride: u32, lane: u32) {
    for (var unit = lane; unit < 2u * groups(); unit += LANES) {
        let what = unit / groups();
        let g = unit % groups();
        let tile = select(keys_of(head) + slot / 16u * key_tile(), values_of(head) + slot / 16u * value_tile(), what == 1u);
        var scales: array<u32, 2>;
        for (var i = 0u; i < n; i += 1u) {
            var peak = 0.0;
            for (var d = 32u * g; d < 32u * g + 32u; d += 1u) {
                peak = max(peak, abs(stored_number(what, i, d, value, stride)));
            }
            scales[i] = bf16_bits(peak / 127.0);
            let scale = bitcast<f32>(scales[i] << 16u);
            let inverse = select(0.0, 1.0 / scale, scale > 1e-30);
            for (var j = 0u; j < 8u; j += 1u) {
                var v: vec4<f32>;
                for (var b = 0u; b < 4u; b += 1u) {
                    v[b] = stored_number(what, i, 32u * g + 4u * j + b, value, stride) * inverse;
                }
                let code = packed_bytes(vec4<i32>(round(clamp(v, vec4<f32>(-127.0), vec4<f32>(127.0)))));
                let place = (slot + i) % 16u;
                cells[tile + codes_place() +
                      select(128u * g + 16u * j + place, place * value_row() + 8u * g + j, what == 1u)] = code;
            }
        }
        store_scale(tile + 8u * g + slot % 16u / 2u, slot, n, scales[0], scales[1]);
    }
}
