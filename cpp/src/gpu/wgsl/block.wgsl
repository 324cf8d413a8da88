// A tile of blocks of 32 columns. A line is rows 4q … 4q + 3 of columns 4j … 4j + 3 of a block's lower half and
// of its upper: four signed bytes a row. A scheme gives line, group_scale, row_scale and minimum.

struct Line { low: vec4<u32>, high: vec4<u32> }

// The lane's share of a tile's rows 4q … 4q + 3 times the codes of the input, into `sums`. 16 lanes take a
// block, which is 256 bytes in a row for 4-bit codes.
fn multiply(tile: u32, lane: u32, first: u32, count: u32) {
    let q = lane & 3u;
    let j = (lane >> 2u) & 3u;
    for (var g = lane >> 4u; g < p.groups; g += LANES / 16u) {
        let codes = line(tile, g, j, q);
        let scale = group_scale(tile, g, q);
        for (var r = 0u; r < ROWS; r += 1u) {
            let x = p.codes_in + (first + min(r, count - 1u)) * 10u * p.groups;
            let low = arena[x + 8u * g + j];
            let high = arena[x + 8u * g + 4u + j];
            let products = vec4<i32>(dot4I8Packed(codes.low.x, low) + dot4I8Packed(codes.high.x, high),
                                     dot4I8Packed(codes.low.y, low) + dot4I8Packed(codes.high.y, high),
                                     dot4I8Packed(codes.low.z, low) + dot4I8Packed(codes.high.z, high),
                                     dot4I8Packed(codes.low.w, low) + dot4I8Packed(codes.high.w, high));
            sums[r] += vec4<f32>(products) * (scale * number(x + 8u * p.groups + g));
            if (HAS_MINIMUM && j == 0u) { sums[r] += minimum(tile, g, q) * number(x + 9u * p.groups + g); }
        }
    }
}

// A row of a tile as floats, times `scale`.
fn dequantize(tile: u32, row: u32, width: u32, scale: f32, out: u32, lane: u32) {
    let q = row >> 2u;
    let c = row & 3u;
    for (var unit = lane; unit < 4u * p.groups; unit += LANES) {
        let g = unit >> 2u;
        let j = unit & 3u;
        let codes = line(tile, g, j, q);
        let factor = group_scale(tile, g, q)[c];
        let least = minimum(tile, g, q)[c];
        let all = row_scale(tile, q)[c] * scale;
        let low = signed_bytes(codes.low[c]);
        let high = signed_bytes(codes.high[c]);
        for (var b = 0u; b < 4u; b += 1u) {
            let k = 32u * g + 4u * j + b;
            if (k < width) { set_number(out + k, all * (factor * low[b] + least)); }
            if (k + 16u < width) { set_number(out + k + 16u, all * (factor * high[b] + least)); }
        }
    }
}
