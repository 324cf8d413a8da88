constant int LEVELS[8] = {-31, -18, -10, -4, 2, 8, 15, 25};
inline int level(uint code) { return LEVELS[code % 8]; }

inline Line line(Tiles tiles, uint tile, uint g, uint j, uint q) {
    const uint at = tile + tiles.codes + 12 * g + q;
    const uint4 third = tiles.weights[at + 8];
    const uint4 low = (tiles.weights[at] >> (2 * j) & 0x03030303u) | (third >> j & 0x01010101u) << 2;
    const uint4 high = (tiles.weights[at + 4] >> (2 * j) & 0x03030303u) | (third >> (4 + j) & 0x01010101u) << 2;
    return look_up4(*tiles.table, low | high << 4);
}
