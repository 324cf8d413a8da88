// Bytes minus 16, none of which borrows from its neighbour.
inline uint4 minus_zero(uint4 codes) { return ((codes | 0x80808080u) - 0x10101010u) ^ 0x80808080u; }

inline Line line(Tiles tiles, uint tile, uint g, uint j, uint q) {
    const uint at = tile + tiles.codes + 20 * g + q;
    const uint4 nibbles = tiles.weights[at + 4 * j], fifth = tiles.weights[at + 16];
    return {minus_zero((nibbles & 0x0f0f0f0fu) | (fifth >> j & 0x01010101u) << 4),
            minus_zero((nibbles >> 4 & 0x0f0f0f0fu) | (fifth >> (4 + j) & 0x01010101u) << 4)};
}
