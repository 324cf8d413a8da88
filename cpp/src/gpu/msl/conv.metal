// A gated short convolution over time: C · conv(B · x), B · x being what a cell keeps. A lane takes a channel through
// all rows. Grid: channels / LANES, 1.

struct Params {
    uint width, taps, input, weight, bias, out, ring, layer, kept;
};

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    const uint c = LANES * group.x + lane;
    if (c >= p.width) return;
    const uint stride = (p.width + 15) / 16 * 16, slots = rows[p.layer + 1];
    device float *cell = (device float *)cells + rows[p.layer] + c;
    for (uint row = 0; row < rows[0]; ++row) {
        device const float *x = arena + p.input + row * 3 * p.width + c;
        cell[rows[p.ring + 8 * row] * stride] = x[0] * x[2 * p.width];
    }
    for (uint row = first_row(rows, p.kept); row < rows[0]; ++row) {
        const uint slot = rows[p.ring + 8 * row], position = rows[p.ring + 8 * row + 7];
        float y = p.bias == NONE ? 0.0f : vectors[p.bias + c];
        for (uint tap = 0; tap < p.taps && tap <= position; ++tap)
            y += vectors[p.weight + c * p.taps + p.taps - 1 - tap] * cell[(slot + slots - tap) % slots * stride];
        arena[p.out + row * p.width + c] = y * arena[p.input + row * 3 * p.width + p.width + c];
    }
}
