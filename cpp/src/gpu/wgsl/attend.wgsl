// A query head over what its row sees of a piece of the ring, with a running softmax. Grid: heads, rows, pieces.

struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    pieces: u32,   // that a row of `parts` has room for
    q: u32,        // [rows][heads][head_dim]
    q_sink: u32,
    ring: u32,     // as in store.wgsl
    layer: u32,
    parts: u32,    // [rows][heads][pieces]: maximum, sum, [head_dim]
    kept: u32,
    softcap: f32,  // 0: none
}

var<workgroup> query: array<f32, 2u * HEAD_DIM>;  // and from HEAD_DIM on as the sinks see it
var<workgroup> scores: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = first_row(p.kept) + group.y;
    let source = (row * p.n_heads + group.x) * p.head_dim;
    for (var d = lane; d < p.head_dim; d += LANES) {
        query[d] = number(p.q + source + d);
        query[HEAD_DIM + d] = number(p.q_sink + source + d);
    }
    workgroupBarrier();
    prepare_query(lane);
    let ring = p.ring + 8u * row;
    let kv_head = group.x / (p.n_heads / p.n_kv_heads);
    let keys = keys_of(kv_head);
    let values = values_of(kv_head);
    let sinks = rows[ring + 5u];

    var sums: array<vec2<f32>, PAIRS>;
    var peak = NEVER;
    var total = 0.0;
    let begin = group.z * rows[2];
    let end = min(begin + rows[2], rows[p.layer + 1u]);
    for (var block = begin; block < end; block += LANES) {
        // Blocks of which nothing is seen are passed over.
        let stop = block + LANES;
        let seen = block < sinks || (rows[ring + 1u] < min(stop, rows[ring + 2u]) && rows[ring + 2u] > block) ||
                   (rows[ring + 3u] < min(stop, rows[ring + 4u]) && rows[ring + 4u] > block);
        if (!seen) { continue; }
        let slot = block + lane;
        let visible = slot < end && (slot < sinks || (slot >= rows[ring + 1u] && slot < rows[ring + 2u]) ||
                                     (slot >= rows[ring + 3u] && slot < rows[ring + 4u]));
        var mine = NEVER;
        if (visible) {
            mine = score(keys, slot, select(0u, HEAD_DIM, slot < sinks));
            if (p.softcap != 0.0) { mine = p.softcap * tanh(clamp(mine / p.softcap, -15.0, 15.0)); }
        }
        scores[lane] = mine;
        workgroupBarrier();
        var highest = peak;
        for (var i = 0u; i < LANES; i += 1u) { highest = max(highest, scores[i]); }
        workgroupBarrier();
        scores[lane] = select(0.0, exp(mine - highest), visible);
        workgroupBarrier();
        let factor = exp(peak - highest);
        peak = highest;
        total *= factor;
        for (var i = 0u; i < PAIRS; i += 1u) { sums[i] *= factor; }
        for (var i = 0u; i < min(LANES, end - block); i += 1u) {
            let weight = scores[i];
            if (weight == 0.0) { continue; }  // what is not seen may never have been written
            total += weight;
            for (var j = 0u; j < PAIRS; j += 1u) {
                let pair = lane + j * LANES;
                if (2u * pair < p.head_dim) { sums[j] += weight * two_values(values, block + i, pair); }
            }
        }
        workgroupBarrier();
    }
    let to = p.parts + ((row * p.n_heads + group.x) * p.pieces + group.z) * (p.head_dim + 2u);
    if (lane == 0u) {
        set_number(to, peak);
        set_number(to + 1u, total);
    }
    for (var j = 0u; j < PAIRS; j += 1u) {
        let d = 2u * (lane + j * LANES);
        if (d < p.head_dim) { set_number(to + 2u + d, sums[j].x); }
        if (d + 1u < p.head_dim) { set_number(to + 3u + d, sums[j].y); }
    }
}
