// The residual stream's beginning: rows of the embedding. Grid: 1, rows of the pass.

struct Params {
    groups: u32,
    codes: u32,      // of a tile, in its vectors of 16 bytes
    tile: u32,       // its size, likewise
    first_tile: u32,  // of this page
    n_tiles: u32,
    base: u32,       // of that tile
    ids: u32,        // place of the table
    width: u32,
    out: u32,
    scale: f32,
    codes_in: u32, floats_in: u32,
}

var<private> sums: array<vec4<f32>, ROWS>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    prepare(lane);
    let id = rows[p.ids + group.y];
    let tile = id / 16u - p.first_tile;
    if (id / 16u < p.first_tile || tile >= p.n_tiles) { return; }
    dequantize(p.base + tile * p.tile, id % 16u, p.width, p.scale, p.out + group.y * p.width, lane);
}
