// Bytes minus 32, none of which borrows from its neighbour.
inline uint4 minus_zero(uint4 codes) { return ((codes | 0x80808080u) - 0x20202020u) ^ 0x80808080u; }

inline Line line(Tiles tiles, uint tile, uint g, uint j, uint q) {
    const uint at = tile + tiles.codes + 24 * g + q;
    const uint4 nibbles = tiles.weights[at + 4 * j], two = uint4(0x03030303u);
    return {minus_zero((nibbles & 0x0f0f0f0fu) | (tiles.weights[at + 16] >> (2 * j) & two) << 4),
            minus_zero((nibbles >> 4 & 0x0f0f0f0fu) | (tiles.weights[at + 20] >> (2 * j) & two) << 4)};
}
