// A gated short convolution over time: C · conv(B · x), B · x being what a cell keeps. A lane takes a channel
// through all rows. Grid: channels / 64, 1.

struct Params {
    width: u32,
    taps: u32,
    input: u32,   // [rows][B, C, x]
    weight: u32,  // among the vectors: [width][taps]
    bias: u32,    // or NONE
    out: u32,     // [rows][width]
    ring: u32,    // as in store.wgsl, and at place 7 the position
    layer: u32,
    kept: u32,
}

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if (c >= p.width) { return; }
    let stride = (p.width + 15u) / 16u * 16u;
    let base = rows[p.layer] + c;
    let slots = rows[p.layer + 1u];
    for (var row = 0u; row < rows[0]; row += 1u) {
        let x = p.input + row * 3u * p.width + c;
        cells[base + rows[p.ring + 8u * row] * stride] = bitcast<u32>(number(x) * number(x + 2u * p.width));
    }
    for (var row = first_row(p.kept); row < rows[0]; row += 1u) {
        let slot = rows[p.ring + 8u * row];
        let position = rows[p.ring + 8u * row + 7u];
        var y = 0.0;
        if (p.bias != NONE) { y = vectors[p.bias + c]; }
        for (var tap = 0u; tap < p.taps && tap <= position; tap += 1u) {
            let cell = base + (slot + slots - tap) % slots * stride;
            y += vectors[p.weight + c * p.taps + p.taps - 1u - tap] * bitcast<f32>(cells[cell]);
        }
        set_number(p.out + row * p.width + c, y * number(p.input + row * 3u * p.width + p.width + c));
    }
}
