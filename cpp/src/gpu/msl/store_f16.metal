// The nearest half, ties to even, as the processor rounds; numbers below the smallest normal half too.
inline ushort half_bits(float x) {
    const uint bits = as_type<uint>(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return ushort(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return ushort(sign | 0x7c00);
    if (magnitude < 0x38800000)  // units of 2^-24, exact in float32
        return ushort(sign | uint(rint(as_type<float>(magnitude) * 16777216.0f)));
    return ushort(sign | (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13);
}

inline void store_cells(Cells cells, uint head, uint slot, threadgroup const float *keys, device const float *values,
                        uint lane) {
    const uint head_dim = cells.head_dim;
    device ushort *key =
        (device ushort *)(cells.words + keys_of(cells, head) + slot / 16 * key_tile(head_dim)) + slot % 16;
    device ushort *value = (device ushort *)(cells.words + values_of(cells, head) + slot / 16 * value_tile(head_dim) +
                                             slot % 16 * value_row(head_dim));
    for (uint d = lane; d < head_dim; d += LANES) {
        key[16 * d] = half_bits(keys[d]);
        value[d] = half_bits(values[d]);
    }
}
