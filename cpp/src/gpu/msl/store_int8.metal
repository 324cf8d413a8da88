// The nearest bfloat16, ties to even.
inline uint bf16_bits(float x) {
    const uint bits = as_type<uint>(x);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// Numbers 32g … 32g + 31 of a head, zero past its end, as eight words of codes, `stride` apart. Gives their scale's bits.
template <typename Numbers>
inline ushort store_group(Numbers numbers, uint g, uint head_dim, device uint *codes, uint stride) {
    float peak = 0;
    for (uint d = 32 * g; d < min(32 * g + 32, head_dim); ++d) peak = max(peak, abs(numbers[d]));
    const uint bits = bf16_bits(peak / 127.0f);
    const float scale = as_type<float>(bits << 16), inverse = scale > 1e-30f ? 1.0f / scale : 0.0f;
    for (uint j = 0; j < 8; ++j) {
        float4 v = float4(0.0f);
        for (uint b = 0; b < 4; ++b) {
            const uint d = 32 * g + 4 * j + b;
            if (d < head_dim) v[b] = numbers[d] * inverse;
        }
        codes[stride * j] = packed_bytes(int4(rint(clamp(v, -127.0f, 127.0f))));
    }
    return ushort(bits);
}

// A lane takes a group.
inline void store_cells(Cells cells, uint head, uint slot, threadgroup const float *keys, device const float *values,
                        uint lane) {
    const uint head_dim = cells.head_dim, groups = groups_of(head_dim), place = slot % 16;
    device uint *key_scales = cells.words + keys_of(cells, head) + slot / 16 * key_tile(head_dim);
    device uint *value_scales = cells.words + values_of(cells, head) + slot / 16 * value_tile(head_dim);
    device uint *key_codes = key_scales + codes_place(head_dim) + place;
    device uint *value_codes = value_scales + codes_place(head_dim) + place * value_row(head_dim);
    for (uint unit = lane; unit < 2 * groups; unit += LANES) {
        const uint g = unit % groups;
        if (unit < groups)
            ((device ushort *)(key_scales + 8 * g))[place] = store_group(keys, g, head_dim, key_codes + 128 * g, 16);
        else
            ((device ushort *)(value_scales + 8 * g))[place] = store_group(values, g, head_dim, value_codes + 8 * g, 1);
    }
}
