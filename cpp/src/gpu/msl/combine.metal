// What a row's experts give, by their shares. Grid: columns / LANES, rows.

struct Params {
    uint width, top_k, input, shares, out, kept, add;
    float scale;
};

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    const uint row = first_row(rows, p.kept) + group.y, c = LANES * group.x + lane;
    if (c >= p.width) return;
    device float &out = arena[p.out + row * p.width + c];
    float y = p.add ? out : 0.0f;
    for (uint k = row * p.top_k; k < (row + 1) * p.top_k; ++k)
        y += arena[p.shares + k] * p.scale * arena[p.input + k * p.width + c];
    out = y;
}
