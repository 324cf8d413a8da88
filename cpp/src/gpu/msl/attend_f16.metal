// What attention reads of cells that are halves.

struct Query {
    float numbers[2][HEAD_DIM];  // the second as the sinks see it
};

inline void prepare_query(threadgroup Query &, uint, uint) {}
inline float score(Cells cells, threadgroup const Query &query, uint keys, uint slot, uint sink) {
    device const half *key = (device const half *)(cells.words + keys + slot / 16 * key_tile(cells.head_dim)) + slot % 16;
    float sum = 0;
    for (uint d = 0; d < cells.head_dim; ++d) sum += query.numbers[sink][d] * float(key[16 * d]);
    return sum;
}
inline float2 two_values(Cells cells, uint values, uint slot, uint pair) {
    const uint at = values + slot / 16 * value_tile(cells.head_dim) + slot % 16 * value_row(cells.head_dim);
    return two_halves(cells.words[at + pair]);
}
