fn store_cells(head: u32, slot: u32, n: u32, value: u32, stride: u32, lane: u32) {
    for (var i = 0u; i < n; i += 1u) {
        let key = keys_of(head) + slot / 16u * key_tile() + slot % 16u + i;
        let to = values_of(head) + slot / 16u * value_tile() + (slot % 16u + i) * value_row();
        for (var d = lane; d < p.head_dim; d += LANES) {
            cells[key + 16u * d] = bitcast<u32>(keys[i][d]);
            cells[to + d] = arena[value + i * stride + d];
        }
    }
}
