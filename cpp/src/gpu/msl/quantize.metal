// Four neighbouring numbers of each lane, columns c … c + 3, as matvec reads them: as floats, unless their place is
// NONE, and as codes of blocks of 32 with their scales. All lanes take part: eight of them have a block.

inline void store_row(float4 v, uint c, uint width, uint lane, device float *arena, uint floats, uint codes) {
    const uint groups = (width + 31) / 32, g = c / 32;
    if (floats != NONE)
        for (uint b = 0; b < 4; ++b)
            if (c + b < width) arena[floats + c + b] = v[b];
    const float4 magnitudes = abs(v);
    float peak = max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w));
    for (ushort i = 1; i < 8; i *= 2) peak = max(peak, simd_shuffle_xor(peak, i));
    const float inverse = peak > 1e-30f ? 127.0f / peak : 0.0f;
    const int4 code = int4(rint(clamp(v * inverse, -127.0f, 127.0f)));
    float sum = float(code.x + code.y + code.z + code.w);
    for (ushort i = 1; i < 8; i *= 2) sum += simd_shuffle_xor(sum, i);
    if (g < groups && codes != NONE) {
        ((device uint *)arena)[codes + c / 4] = packed_bytes(code);
        if (lane % 8 == 0) {
            arena[codes + 8 * groups + g] = peak / 127.0f;
            arena[codes + 9 * groups + g] = peak / 127.0f * sum;
        }
    }
}
