// Up to three matrices of one layout times ROWS rows: see wgsl/matvec.wgsl. Grid: tiles of all of them, rows / ROWS.

struct Segment {
    uint base, end, first, rows, out, stride, bias, unused;
};
struct Params {
    Segment segments[3];
    uint groups, codes, tile, width, codes_in, floats_in, kept, compact, add;
    float scale, softcap;
    uint top_k, chosen, by_choice;
};

constexpr constant uint SIMDS = LANES / SIMD;

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    threadgroup Table table;
    threadgroup float parts[SIMDS * ROWS * 16];
    prepare(table, lane);
    const Tiles tiles = {weights, p.groups, p.codes, &table};

    uint which = 0, tile = group.x;
    while (which < 2 && group.x >= p.segments[which].end) ++which;
    if (which > 0) tile -= p.segments[which - 1].end;
    Segment segment = p.segments[which];
    const uint start = first_row(rows, p.kept);
    uint at = segment.base + tile * p.tile, first = start + group.y * ROWS, count = min(ROWS, rows[0] - first);
    uint out_row = first - (p.compact ? start : 0);
    if (p.top_k) {
        out_row = start * p.top_k + group.y;
        const uint expert = ((device const uint *)arena)[p.chosen + out_row];
        at = rows[segment.base + expert] + tile * p.tile;
        if (segment.bias != NONE) segment.bias = rows[segment.bias + expert];
        first = p.by_choice ? out_row : out_row / p.top_k;
        count = 1;
    }

    float4 sums[ROWS];
    for (uint r = 0; r < ROWS; ++r) sums[r] = float4(0.0f);
    multiply(tiles, at, lane, arena, p.codes_in, p.floats_in, p.width, first, count, sums);
    // Lanes with the same rows are four apart.
    for (uint r = 0; r < ROWS; ++r) {
        for (ushort i = 4; i < SIMD; i *= 2) sums[r] += simd_shuffle_xor(sums[r], i);
        for (uint b = 0; b < 4 && lane % SIMD < 4; ++b)
            parts[(lane / SIMD * ROWS + r) * 16 + 4 * (lane % SIMD) + b] = sums[r][b];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = lane; i < 16 * count; i += LANES) {
        const uint r = i / 16, c = i % 16, row = segment.first + 16 * tile + c;
        if (row >= segment.rows) continue;
        float sum = 0;
        for (uint s = 0; s < SIMDS; ++s) sum += parts[(s * ROWS + r) * 16 + c];
        float y = sum * row_scale(tiles, at, c / 4)[c % 4];
        if (segment.bias != NONE) y += vectors[segment.bias + row];
        y *= p.scale;
        if (p.softcap != 0) y = p.softcap * tanh(clamp(y / p.softcap, -15.0f, 15.0f));
        device float &out = arena[segment.out + (out_row + r) * segment.stride + row];
        out = p.add ? out + y : y;
    }
}
