inline float4 column(Tiles tiles, uint tile, uint k, uint q) {
    const uint2 words = half_words(tiles.weights, tile + 2 * k, q);
    return float4(two_bf16(words.x), two_bf16(words.y));
}
