// Codes of four bits whose levels `level` gives: a byte holds two, and becomes both levels at once.

struct Table {
    uint pairs[256];  // low nibble's level, and the high one's from bit 16
};

int level(uint code);

inline void prepare(threadgroup Table &table, uint lane) {
    for (uint i = lane; i < 256; i += LANES)
        table.pairs[i] = (uint(level(i % 16)) & 0xff) | (uint(level(i / 16)) & 0xff) << 16;
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

// Levels of a word's low nibbles, and of its high ones, as bytes.
inline uint2 look_up(threadgroup const Table &table, uint word) {
    const uint a = table.pairs[word & 0xff] | table.pairs[word >> 8 & 0xff] << 8;
    const uint b = table.pairs[word >> 16 & 0xff] | table.pairs[word >> 24] << 8;
    return uint2((a & 0xffff) | b << 16, a >> 16 | (b & 0xffff0000u));
}
inline Line look_up4(threadgroup const Table &table, uint4 words) {
    const uint2 x = look_up(table, words.x), y = look_up(table, words.y), z = look_up(table, words.z),
                w = look_up(table, words.w);
    return {uint4(x.x, y.x, z.x, w.x), uint4(x.y, y.y, z.y, w.y)};
}
