// The residual stream's beginning: rows of the embedding. Grid: 1, rows of the pass.

struct Params {
    uint groups, codes, tile, first_tile, n_tiles, base, ids, width, out;
    float scale;
    uint codes_in, floats_in;
};

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    threadgroup Table table;
    prepare(table, lane);
    const Tiles tiles = {weights, p.groups, p.codes, &table};
    const uint id = rows[p.ids + group.y], tile = id / 16 - p.first_tile;
    if (id / 16 < p.first_tile || tile >= p.n_tiles) return;
    dequantize(tiles, p.base + tile * p.tile, id % 16, p.width, p.scale, lane, arena + p.out + group.y * p.width);
}
