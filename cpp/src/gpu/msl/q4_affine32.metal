inline bool has_minimum() { return true; }
inline float4 row_scale(Tiles tiles, uint tile, uint q) { return as_type<float4>(tiles.weights[tile + q]); }
inline float4 four_halves(uint2 words) { return float4(two_halves(words.x), two_halves(words.y)); }
inline float4 group_scale(Tiles tiles, uint tile, uint g, uint q) {
    return four_halves(half_words(tiles.weights, tile + 4 + 2 * g, q));
}
inline float4 minimum(Tiles tiles, uint tile, uint g, uint q) {
    return four_halves(half_words(tiles.weights, tile + 4 + 2 * tiles.groups + 2 * g, q));
}
inline Line line(Tiles tiles, uint tile, uint g, uint j, uint q) {
    const uint4 nibbles = tiles.weights[tile + tiles.codes + 16 * g + 4 * j + q];
    return {nibbles & 0x0f0f0f0fu, nibbles >> 4 & 0x0f0f0f0fu};
}
