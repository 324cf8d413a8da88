inline float4 row_scale(Tiles, uint, uint) { return float4(1.0f); }
inline float4 group_scale(Tiles tiles, uint tile, uint g, uint q) {
    const uint2 words = half_words(tiles.weights, tile + 2 * g, q);
    return float4(two_bf16(words.x), two_bf16(words.y));
}
inline Line line(Tiles tiles, uint tile, uint g, uint j, uint q) {
    const uint at = tile + tiles.codes + 32 * g + 4 * j + q;
    return {tiles.weights[at], tiles.weights[at + 16]};
}
