inline void store_cells(Cells cells, uint head, uint slot, threadgroup const float *keys, device const float *values,
                        uint lane) {
    const uint head_dim = cells.head_dim;
    device float *key = (device float *)cells.words + keys_of(cells, head) + slot / 16 * key_tile(head_dim) + slot % 16;
    device float *value = (device float *)cells.words + values_of(cells, head) + slot / 16 * value_tile(head_dim) +
                          slot % 16 * value_row(head_dim);
    for (uint d = lane; d < head_dim; d += LANES) {
        key[16 * d] = keys[d];
        value[d] = values[d];
    }
}
