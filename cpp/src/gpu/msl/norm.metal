// Rows, normalised, as the next matrix reads them, or added to the residual stream. Grid: 1, rows.

struct Params {
    uint kind, width, input, weight, bias, kept, compact, floats, codes, sum;
    float scale, scalar, eps;
};

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    threadgroup float partial[LANES / SIMD];
    const uint start = first_row(rows, p.kept), row = start + group.y, groups = (p.width + 31) / 32;
    device const float *x = arena + p.input + row * p.width;
    float mean = 0, factor = 1;
    if (p.kind == 2) {
        float sum = 0;
        for (uint c = lane; c < p.width; c += LANES) sum += x[c];
        mean = total(sum, lane, partial) / float(p.width);
    }
    if (p.kind != 0) {
        float squares = 0;
        for (uint c = lane; c < p.width; c += LANES) squares += (x[c] - mean) * (x[c] - mean);
        factor = 1.0f / sqrt(total(squares, lane, partial) / float(p.width) + p.eps);
    }
    const uint floats = p.floats == NONE ? NONE : p.floats + (row - (p.compact ? start : 0)) * p.width;
    const uint codes = p.codes == NONE ? NONE : p.codes + row * 10 * groups;
    for (uint base = 0; base < 32 * groups; base += 4 * LANES) {
        const uint c = base + 4 * lane;
        float4 v = float4(0.0f);
        for (uint b = 0; b < 4 && c + b < p.width; ++b) {
            float y = (x[c + b] - mean) * factor;
            if (p.weight != NONE) y *= vectors[p.weight + c + b];
            if (p.bias != NONE) y += vectors[p.bias + c + b];
            if (p.sum != NONE) {
                device float &sum = arena[p.sum + row * p.width + c + b];
                sum = (sum + p.scale * y) * p.scalar;
            }
            v[b] = y;
        }
        store_row(v, c, p.width, lane, arena, floats, codes);
    }
}
