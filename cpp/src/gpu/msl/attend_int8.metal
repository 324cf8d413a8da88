// What attention reads of cells that are codes. Queries become codes too.

struct Query {
    float numbers[2][HEAD_DIM];  // the second as the sinks see it
    uint codes[2][256];
    float scales[2][32];
};

inline void prepare_query(threadgroup Query &query, uint head_dim, uint lane) {
    const uint groups = groups_of(head_dim);
    for (uint unit = lane; unit < 2 * groups; unit += LANES) {
        const uint sink = unit / groups, g = unit % groups;
        threadgroup const float *numbers = query.numbers[sink];
        float peak = 0;
        for (uint d = 32 * g; d < min(32 * g + 32, head_dim); ++d) peak = max(peak, abs(numbers[d]));
        const float inverse = peak > 1e-30f ? 127.0f / peak : 0.0f;
        for (uint j = 0; j < 8; ++j) {
            float4 v = float4(0.0f);
            for (uint b = 0; b < 4; ++b) {
                const uint d = 32 * g + 4 * j + b;
                if (d < head_dim) v[b] = numbers[d] * inverse;
            }
            query.codes[sink][8 * g + j] = packed_bytes(int4(rint(clamp(v, -127.0f, 127.0f))));
        }
        query.scales[sink][g] = peak / 127.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
}
inline float scale_of(Cells cells, uint tile, uint g, uint slot) {
    return two_bf16(cells.words[tile + 8 * g + slot % 16 / 2])[slot % 2];
}
inline float score(Cells cells, threadgroup const Query &query, uint keys, uint slot, uint sink) {
    const uint tile = keys + slot / 16 * key_tile(cells.head_dim), codes = tile + codes_place(cells.head_dim);
    float sum = 0;
    for (uint g = 0; g < groups_of(cells.head_dim); ++g) {
        float products = 0;  // of bytes: exact
        for (uint j = 0; j < 8; ++j)
            products += dot(signed_bytes(cells.words[codes + 128 * g + 16 * j + slot % 16]),
                            signed_bytes(query.codes[sink][8 * g + j]));
        sum += products * (scale_of(cells, tile, g, slot) * query.scales[sink][g]);
    }
    return sum;
}
inline float2 two_values(Cells cells, uint values, uint slot, uint pair) {
    const uint tile = values + slot / 16 * value_tile(cells.head_dim);
    const uint row = tile + codes_place(cells.head_dim) + slot % 16 * value_row(cells.head_dim);
    const float4 four = signed_bytes(cells.words[row + pair / 2]);
    return (pair % 2 ? four.zw : four.xy) * scale_of(cells, tile, pair / 16, slot);
}
