// Where cells lie: a head's keys are tiles of 16 slots, its values another run of such tiles. Of a type of cells,
// layout_<type> gives the tiles' words, store_<type> writes them, attend_<type> reads them.

struct Cells {
    device uint *words;
    uint offset, slots, head_dim;  // of the layer
};

uint key_tile(uint head_dim);
uint value_tile(uint head_dim);
uint value_row(uint head_dim);

inline uint keys_of(Cells cells, uint head) {
    return cells.offset + head * (cells.slots / 16) * (key_tile(cells.head_dim) + value_tile(cells.head_dim));
}
inline uint values_of(Cells cells, uint head) {
    return keys_of(cells, head) + cells.slots / 16 * key_tile(cells.head_dim);
}
