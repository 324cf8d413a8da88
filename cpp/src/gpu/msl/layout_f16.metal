// Keys [d][16 slots], values [slot][head_dim up to a multiple of 16]; halves.

inline uint key_tile(uint head_dim) { return (head_dim + 1) / 2 * 16; }
inline uint value_row(uint head_dim) { return (head_dim + 15) / 16 * 8; }
inline uint value_tile(uint head_dim) { return 16 * value_row(head_dim); }
