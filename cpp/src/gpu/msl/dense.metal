// A tile of columns of 16 floats. A scheme gives column: rows 4q … 4q + 3 of one.

struct Table {};
struct Tiles {
    device const uint4 *weights;
    uint groups, codes;
    threadgroup const Table *table;
};

float4 column(Tiles tiles, uint tile, uint k, uint q);
inline void prepare(threadgroup Table &, uint) {}
inline float4 row_scale(Tiles, uint, uint) { return float4(1.0f); }

inline void multiply(Tiles tiles, uint tile, uint lane, device const float *arena, uint codes_in, uint floats_in,
                     uint width, uint first, uint count, thread float4 *sums) {
    const uint q = lane % 4;
    const uint share = (width + LANES / SIMD - 1) / (LANES / SIMD), begin = lane / SIMD * share;
    for (uint k = begin + lane % SIMD / 4; k < min(begin + share, width); k += SIMD / 4) {
        const float4 w = column(tiles, tile, k, q);
        for (uint r = 0; r < ROWS; ++r) sums[r] += w * arena[floats_in + (first + min(r, count - 1)) * width + k];
    }
}

inline void dequantize(Tiles tiles, uint tile, uint row, uint width, float scale, uint lane, device float *out) {
    for (uint k = lane; k < width; k += LANES) out[k] = column(tiles, tile, k, row / 4)[row % 4] * scale;
}
