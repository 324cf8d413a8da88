// The experts of every row and their weights, from the router's scores. Grid: 1, rows.

struct Params {
    n_experts: u32,
    top_k: u32,
    normalize: u32,  // the weights of the chosen ones sum to 1; else those of all
    scores: u32,     // [rows][n_experts]
    chosen: u32,     // [rows][top_k]
    shares: u32,     // [rows][top_k]
    kept: u32,
}

var<workgroup> likelihood: array<f32, 1024>;
var<workgroup> best: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = first_row(p.kept) + group.y;
    var peak = NEVER;
    for (var e = 0u; e < p.n_experts; e += 1u) { peak = max(peak, number(p.scores + row * p.n_experts + e)); }
    var all = 0.0;
    for (var e = lane; e < p.n_experts; e += LANES) {
        likelihood[e] = exp(number(p.scores + row * p.n_experts + e) - peak);
        all += likelihood[e];
    }
    all = total(all, lane);
    var sum = 0.0;
    for (var k = 0u; k < p.top_k; k += 1u) {
        var mine = lane;  // of equals the first
        for (var e = lane; e < p.n_experts; e += LANES) {
            if (likelihood[e] > likelihood[mine]) { mine = e; }
        }
        best[lane] = mine;
        workgroupBarrier();
        if (lane == 0u) {
            for (var i = 1u; i < min(LANES, p.n_experts); i += 1u) {
                let other = best[i];
                if (likelihood[other] > likelihood[mine] ||
                    (likelihood[other] == likelihood[mine] && other < mine)) { mine = other; }
            }
            sum += likelihood[mine];
            arena[p.chosen + row * p.top_k + k] = mine;
            set_number(p.shares + row * p.top_k + k, likelihood[mine]);
            likelihood[mine] = -1.0;
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        let whole = select(all, sum, p.normalize != 0u);
        for (var k = 0u; k < p.top_k; k += 1u) {
            let at = p.shares + row * p.top_k + k;
            set_number(at, number(at) / whole);
        }
    }
}
