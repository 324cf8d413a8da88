// A tile of blocks of 32 columns. A line is rows 4q … 4q + 3 of columns 4j … 4j + 3 of a block's lower half and of its
// upper: four signed bytes a row. A scheme gives line, group_scale, row_scale, minimum and has_minimum.

struct Line {
    uint4 low, high;
};
struct Table;  // of levels, in threadgroup memory
struct Tiles {
    device const uint4 *weights;
    uint groups, codes;  // of a tile; where its codes begin, in vectors
    threadgroup const Table *table;
};

Line line(Tiles tiles, uint tile, uint g, uint j, uint q);
float4 row_scale(Tiles tiles, uint tile, uint q);
float4 group_scale(Tiles tiles, uint tile, uint g, uint q);
float4 minimum(Tiles tiles, uint tile, uint g, uint q);
bool has_minimum();

// Codes are bytes, so that sums of eight products are exact as floats too.
inline float4 products(uint4 codes, float4 x) {
    return float4(dot(signed_bytes(codes.x), x), dot(signed_bytes(codes.y), x), dot(signed_bytes(codes.z), x),
                  dot(signed_bytes(codes.w), x));
}

// The lane's share of a tile's rows 4q … 4q + 3 times `count` rows of the input, into `sums`. 16 lanes take a block,
// which is 256 bytes in a row for 4-bit codes; a simdgroup has neighbouring blocks, so that few lines are two's.
inline void multiply(Tiles tiles, uint tile, uint lane, device const float *arena, uint codes_in, uint floats_in,
                     uint width, uint first, uint count, thread float4 *sums) {
    const uint q = lane % 4, j = lane / 4 % 4, groups = tiles.groups;
    const uint share = (groups + LANES / SIMD - 1) / (LANES / SIMD), begin = lane / SIMD * share;
    for (uint g = begin + lane % SIMD / 16; g < min(begin + share, groups); g += SIMD / 16) {
        const Line codes = line(tiles, tile, g, j, q);
        const float4 scale = group_scale(tiles, tile, g, q);
        for (uint r = 0; r < ROWS; ++r) {
            device const float *x = arena + codes_in + (first + min(r, count - 1)) * 10 * groups;
            device const uint *block = (device const uint *)x + 8 * g;
            const float4 sum = products(codes.low, signed_bytes(block[j])) +
                               products(codes.high, signed_bytes(block[4 + j]));
            sums[r] += sum * (scale * x[8 * groups + g]);
            if (has_minimum() && j == 0) sums[r] += minimum(tiles, tile, g, q) * x[9 * groups + g];
        }
    }
}

// A row of a tile as floats, times `scale`.
inline void dequantize(Tiles tiles, uint tile, uint row, uint width, float scale, uint lane, device float *out) {
    const uint q = row / 4, c = row % 4;
    for (uint unit = lane; unit < 4 * tiles.groups; unit += LANES) {
        const uint g = unit / 4, j = unit % 4;
        const Line codes = line(tiles, tile, g, j, q);
        const float factor = group_scale(tiles, tile, g, q)[c], least = minimum(tiles, tile, g, q)[c],
                    all = row_scale(tiles, tile, q)[c] * scale;
        const float4 low = signed_bytes(codes.low[c]), high = signed_bytes(codes.high[c]);
        for (uint b = 0; b < 4; ++b) {
            const uint k = 32 * g + 4 * j + b;
            if (k < width) out[k] = all * (factor * low[b] + least);
            if (k + 16 < width) out[k + 16] = all * (factor * high[b] + least);
        }
    }
}
