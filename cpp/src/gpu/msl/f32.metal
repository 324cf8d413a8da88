inline float4 column(Tiles tiles, uint tile, uint k, uint q) {
    return as_type<float4>(tiles.weights[tile + 4 * k + q]);
}
