// The experts of every row and their weights, from the router's scores. Grid: 1, rows.

struct Params {
    uint n_experts, top_k, normalize, scores, chosen, shares, kept;
};

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    threadgroup float likelihood[1024], partial[LANES / SIMD];
    threadgroup uint best[LANES];
    const uint row = first_row(rows, p.kept) + group.y;
    device const float *scores = arena + p.scores + row * p.n_experts;
    device uint *chosen = (device uint *)arena + p.chosen + row * p.top_k;
    device float *shares = arena + p.shares + row * p.top_k;
    float peak = NEVER, all = 0, sum = 0;
    for (uint e = 0; e < p.n_experts; ++e) peak = max(peak, scores[e]);
    for (uint e = lane; e < p.n_experts; e += LANES) {
        likelihood[e] = exp(scores[e] - peak);
        all += likelihood[e];
    }
    all = total(all, lane, partial);
    for (uint k = 0; k < p.top_k; ++k) {
        uint mine = lane;  // of equals the first
        for (uint e = lane; e < p.n_experts; e += LANES)
            if (likelihood[e] > likelihood[mine]) mine = e;
        best[lane] = mine;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane == 0) {
            for (uint i = 1; i < min(LANES, p.n_experts); ++i) {
                const uint other = best[i];
                if (likelihood[other] > likelihood[mine] || (likelihood[other] == likelihood[mine] && other < mine))
                    mine = other;
            }
            sum += likelihood[mine];
            chosen[k] = mine;
            shares[k] = likelihood[mine];
            likelihood[mine] = -1;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (lane == 0)
        for (uint k = 0; k < p.top_k; ++k) shares[k] /= p.normalize ? sum : all;
}
