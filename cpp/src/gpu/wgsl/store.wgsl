// The norm of queries and keys, their rotation, and keys and values into their cells. Grid: heads of the
// queries, then of the keys and values; rows.
//
// Two slots share a word of 16-bit cells, so that the first of a pass's rows in such a pair writes for both.

struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    half: u32,        // numbers that the rotation pairs with as many; 0: none
    angles: u32,      // place of the table [rows][cos, sin]
    sink_angles: u32,  // and of the one for the sinks of a text past its capacity
    q: u32,           // [rows][heads][head_dim]
    k: u32,
    v: u32,
    q_out: u32,       // like q
    q_sink: u32,      // the queries as the sinks see them
    ring: u32,        // place of the table [rows][8]: slot, two runs of slots, end of the sinks, past capacity
    layer: u32,       // place of the layer's cells: [offset in words, slots]
    qk_norm: u32,     // 0: none, 1: a head, 2: a row, 3: a layer norm of a head with weights of its own, 4: a head
                      // once it is rotated
    kind: u32,        // of the norm, as in norm.wgsl
    q_weight: u32,
    q_bias: u32,
    k_weight: u32,
    k_bias: u32,
    kept: u32,
    eps: f32,
    scale: f32,       // of the queries
}

var<workgroup> head: array<f32, HEAD_DIM>;
var<workgroup> keys: array<array<f32, HEAD_DIM>, 2>;

// Head `index` of a row at `base`, normalised and scaled, into `head`.
fn load(base: u32, index: u32, n: u32, weight: u32, bias: u32, scale: f32, lane: u32) {
    let x = base + index * p.head_dim;
    var mean = 0.0;
    var factor = 1.0;
    let before = p.qk_norm != 0u && p.qk_norm != 4u;
    if (before) {
        let source = select(x, base, p.qk_norm == 2u);
        let width = select(p.head_dim, n * p.head_dim, p.qk_norm == 2u);
        if (p.kind == 2u || p.qk_norm == 3u) {
            var sum = 0.0;
            for (var d = lane; d < width; d += LANES) { sum += number(source + d); }
            mean = total(sum, lane) / f32(width);
        }
        var squares = 0.0;
        for (var d = lane; d < width; d += LANES) {
            let difference = number(source + d) - mean;
            squares += difference * difference;
        }
        factor = 1.0 / sqrt(total(squares, lane) / f32(width) + p.eps);
    }
    for (var d = lane; d < p.head_dim; d += LANES) {
        var y = (number(x + d) - mean) * factor;
        if (before) {
            let at = select(index * p.head_dim + d, d, p.qk_norm == 1u);
            if (weight != NONE) { y *= vectors[weight + at]; }
            if (bias != NONE) { y += vectors[bias + at]; }
        }
        head[d] = y * select(scale, 1.0, p.qk_norm == 4u);
    }
    workgroupBarrier();
}

// The factor of the norm that a head has once it is rotated by the angles at `at`.
fn factor_after(at: u32, lane: u32) -> f32 {
    if (p.qk_norm != 4u) { return 1.0; }
    var squares = 0.0;
    for (var d = lane; d < p.head_dim; d += LANES) {
        let y = rotated(d, at);
        squares += y * y;
    }
    return 1.0 / sqrt(total(squares, lane) / f32(p.head_dim) + p.eps);
}
fn weight_after(d: u32, weight: u32) -> f32 {
    if (p.qk_norm != 4u || weight == NONE) { return 1.0; }
    return vectors[weight + d];
}

// Dimension d of the head, rotated by the angles of a table's row at `at`.
fn rotated(d: u32, at: u32) -> f32 {
    if (d >= 2u * p.half) { return head[d]; }
    let upper = d >= p.half;
    let i = select(d, d - p.half, upper);
    let c = bitcast<f32>(rows[at + i]);
    let s = bitcast<f32>(rows[at + p.half + i]);
    return select(head[i] * c - head[i + p.half] * s, head[i + p.half] * c + head[i] * s, upper);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let ring = p.ring + 8u * row;
    if (group.x < p.n_heads) {
        if (row < first_row(p.kept)) { return; }
        let base = row * p.n_heads * p.head_dim;
        load(p.q + base, group.x, p.n_heads, p.q_weight, p.q_bias, p.scale, lane);
        let to = base + group.x * p.head_dim;
        let capped = rows[ring + 6u] != 0u;
        let angles = p.angles + row * 2u * p.half;
        let sink_angles = select(angles, p.sink_angles, capped);
        let scale = select(1.0, p.scale, p.qk_norm == 4u);
        let factor = scale * factor_after(angles, lane);
        let sink_factor = scale * factor_after(sink_angles, lane);
        for (var d = lane; d < p.head_dim; d += LANES) {
            let weight = weight_after(d, p.q_weight);
            set_number(p.q_out + to + d, rotated(d, angles) * factor * weight);
            set_number(p.q_sink + to + d, rotated(d, sink_angles) * sink_factor * weight);
        }
        return;
    }
    let kv_head = group.x - p.n_heads;
    let slot = rows[ring];
    let after = row > 0u && (slot & 1u) == 1u && rows[ring - 8u] + 1u == slot;
    if (after) { return; }
    let both = (slot & 1u) == 0u && row + 1u < rows[0] && rows[ring + 8u] == slot + 1u;
    let n = select(1u, 2u, both);
    for (var i = 0u; i < n; i += 1u) {
        load(p.k + (row + i) * p.n_kv_heads * p.head_dim, kv_head, p.n_kv_heads, p.k_weight, p.k_bias, 1.0, lane);
        let angles = p.angles + (row + i) * 2u * p.half;
        let factor = factor_after(angles, lane);
        for (var d = lane; d < p.head_dim; d += LANES) {
            keys[i][d] = rotated(d, angles) * factor * weight_after(d, p.k_weight);
        }
        workgroupBarrier();
    }
    let value = p.v + (row * p.n_kv_heads + kv_head) * p.head_dim;
    store_cells(kv_head, slot, n, value, p.n_kv_heads * p.head_dim, lane);
}
