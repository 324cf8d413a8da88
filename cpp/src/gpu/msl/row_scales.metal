// Tiles that begin with 16 float32 row scales and have 16 signed bytes of scales a group.

inline float4 row_scale(Tiles tiles, uint tile, uint q) { return as_type<float4>(tiles.weights[tile + q]); }
inline float4 group_scale(Tiles tiles, uint tile, uint g, uint q) {
    return signed_bytes(((device const uint *)(tiles.weights + tile + 4 + g))[q]);
}
