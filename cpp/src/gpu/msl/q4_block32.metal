constant int LEVELS[16] = {-31, -24, -18, -14, -11, -8, -5, -2, 0, 3, 6, 9, 12, 16, 21, 30};
inline int level(uint code) { return LEVELS[code]; }

inline Line line(Tiles tiles, uint tile, uint g, uint j, uint q) {
    return look_up4(*tiles.table, tiles.weights[tile + tiles.codes + 16 * g + 4 * j + q]);
}
