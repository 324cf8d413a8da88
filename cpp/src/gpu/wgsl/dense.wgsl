// A tile of columns of 16 floats. A scheme gives column: rows 4q … 4q + 3 of one.

fn prepare(lane: u32) {}
fn row_scale(tile: u32, q: u32) -> vec4<f32> { return vec4<f32>(1.0); }

fn multiply(tile: u32, lane: u32, first: u32, count: u32) {
    let q = lane & 3u;
    for (var k = lane >> 2u; k < p.width; k += LANES / 4u) {
        let w = column(tile, k, q);
        for (var r = 0u; r < ROWS; r += 1u) {
            sums[r] += w * number(p.floats_in + (first + min(r, count - 1u)) * p.width + k);
        }
    }
}

fn dequantize(tile: u32, row: u32, width: u32, scale: f32, out: u32, lane: u32) {
    for (var k = lane; k < width; k += LANES) {
        set_number(out + k, column(tile, k, row >> 2u)[row & 3u] * scale);
    }
}
