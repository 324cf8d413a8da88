// Up to three matrices of one layout times ROWS rows. Grid: tiles of all of them, rows / ROWS. A row's sums are
// made in the same order whatever ROWS is.

struct Segment {
    base: u32,       // of the first tile, in vectors of 16 bytes
    end: u32,        // workgroups up to its last tile
    first: u32,      // the matrix's row that this page begins with
    rows: u32,       // of the matrix
    out: u32,        // [rows of the pass][stride]
    stride: u32,
    bias: u32,       // among the vectors, or NONE
    unused: u32,
}
struct Params {
    segments: array<Segment, 3>,
    groups: u32,
    codes: u32,
    tile: u32,
    width: u32,
    codes_in: u32,   // [rows of the pass]: 8 words a group, scales, sums
    floats_in: u32,  // [rows of the pass][width]
    kept: u32,       // rows with an output alone
    compact: u32,    // the first of them gives row 0 of out
    add: u32,        // out += instead of out =
    scale: f32,
    softcap: f32,    // 0: none
    top_k: u32,      // of experts, a choice a row of the grid; 0: no experts
    chosen: u32,     // which, [rows][top_k]; base and bias are then places of tables of theirs
    by_choice: u32,  // the input has a row a choice, not a row of the pass
}

var<private> sums: array<vec4<f32>, ROWS>;
var<workgroup> parts: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    prepare(lane);
    var segment = p.segments[0];
    var tile = group.x;
    if (group.x >= p.segments[1].end) {
        segment = p.segments[2];
        tile -= p.segments[1].end;
    } else if (group.x >= p.segments[0].end) {
        segment = p.segments[1];
        tile -= p.segments[0].end;
    }
    let start = first_row(p.kept);
    var at = segment.base + tile * p.tile;
    var first = start + group.y * ROWS;
    var count = min(ROWS, rows[0] - first);
    var out_row = first - select(0u, start, p.compact != 0u);
    if (p.top_k != 0u) {
        out_row = start * p.top_k + group.y;
        let expert = arena[p.chosen + out_row];
        at = rows[segment.base + expert] + tile * p.tile;
        if (segment.bias != NONE) { segment.bias = rows[segment.bias + expert]; }
        first = select(out_row / p.top_k, out_row, p.by_choice != 0u);
        count = 1u;
    }
    multiply(at, lane, first, count);
    for (var r = 0u; r < ROWS; r += 1u) {
        parts[lane] = sums[r];
        workgroupBarrier();
        let row = segment.first + 16u * tile + lane;
        if (lane < 16u && r < count && row < segment.rows) {
            var sum = 0.0;
            for (var i = lane >> 2u; i < LANES; i += 4u) { sum += parts[i][lane & 3u]; }
            var y = sum * row_scale(at, lane >> 2u)[lane & 3u];
            if (segment.bias != NONE) { y += vectors[segment.bias + row]; }
            y *= p.scale;
            if (p.softcap != 0.0) { y = p.softcap * tanh(clamp(y / p.softcap, -15.0, 15.0)); }
            let to = segment.out + (out_row + r) * segment.stride + row;
            if (p.add != 0u) { y += number(to); }
            set_number(to, y);
        }
        workgroupBarrier();
    }
}
