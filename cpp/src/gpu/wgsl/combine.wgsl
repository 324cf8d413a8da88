// What a row's experts give, by their shares. Grid: columns / 64, rows.

struct Params {
    width: u32,
    top_k: u32,
    input: u32,   // [rows · top_k][width]
    shares: u32,  // [rows][top_k]
    out: u32,     // [rows][width]
    kept: u32,
    add: u32,     // out += instead of out =
    scale: f32,
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = first_row(p.kept) + group.y;
    let c = 64u * group.x + lane;
    if (c >= p.width) { return; }
    let at = p.out + row * p.width + c;
    var y = 0.0;
    if (p.add != 0u) { y = number(at); }
    for (var k = row * p.top_k; k < (row + 1u) * p.top_k; k += 1u) {
        y += number(p.shares + k) * p.scale * number(p.input + k * p.width + c);
    }
    set_number(at, y);
}
