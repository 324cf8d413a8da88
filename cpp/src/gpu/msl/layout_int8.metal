// Tiles of 16 slots: a bfloat16 scale a group of 32 dimensions and slot, up to a multiple of 64 bytes; then codes, of
// keys as in q8_block32, of values a row a slot.

inline uint groups_of(uint head_dim) { return (head_dim + 31) / 32; }
inline uint codes_place(uint head_dim) { return (groups_of(head_dim) + 1) / 2 * 16; }
inline uint value_row(uint head_dim) { return 8 * groups_of(head_dim); }
inline uint key_tile(uint head_dim) { return codes_place(head_dim) + 128 * groups_of(head_dim); }
inline uint value_tile(uint head_dim) { return codes_place(head_dim) + 16 * value_row(head_dim); }
