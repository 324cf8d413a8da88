// A query head over what its row sees of a piece of the ring, with a running softmax. Grid: heads, rows, pieces.

struct Params {
    uint n_heads, n_kv_heads, head_dim, pieces, q, q_sink, ring, layer, parts, kept;
    float softcap;
};

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    threadgroup Query query;
    threadgroup float scores[LANES], peaks[LANES / SIMD];
    const uint row = first_row(rows, p.kept) + group.y, head = row * p.n_heads + group.x;
    for (uint d = lane; d < p.head_dim; d += LANES) {
        query.numbers[0][d] = arena[p.q + head * p.head_dim + d];
        query.numbers[1][d] = arena[p.q_sink + head * p.head_dim + d];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    prepare_query(query, p.head_dim, lane);
    const Cells all = {cells, rows[p.layer], rows[p.layer + 1], p.head_dim};
    const uint kv_head = group.x / (p.n_heads / p.n_kv_heads), keys = keys_of(all, kv_head),
               values = values_of(all, kv_head);
    device const uint *ring = rows + p.ring + 8 * row;
    const uint sinks = ring[5];

    float2 sums[PAIRS];
    for (uint j = 0; j < PAIRS; ++j) sums[j] = float2(0.0f);
    float peak = NEVER, sum = 0;
    const uint begin = group.z * rows[2], end = min(begin + rows[2], all.slots);
    for (uint block = begin; block < end; block += LANES) {
        // Blocks of which nothing is seen are passed over.
        const uint stop = block + LANES;
        if (!(block < sinks || (ring[1] < min(stop, ring[2]) && ring[2] > block) ||
              (ring[3] < min(stop, ring[4]) && ring[4] > block)))
            continue;
        const uint slot = block + lane;
        const bool visible = slot < end && (slot < sinks || (slot >= ring[1] && slot < ring[2]) ||
                                            (slot >= ring[3] && slot < ring[4]));
        float mine = NEVER;
        if (visible) {
            mine = score(all, query, keys, slot, slot < sinks);
            if (p.softcap != 0) mine = p.softcap * tanh(clamp(mine / p.softcap, -15.0f, 15.0f));
        }
        const float highest_of_simd = simd_max(mine);
        if (lane % SIMD == 0) peaks[lane / SIMD] = highest_of_simd;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float highest = peak;
        for (uint i = 0; i < LANES / SIMD; ++i) highest = max(highest, peaks[i]);
        scores[lane] = visible ? exp(mine - highest) : 0.0f;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const float factor = exp(peak - highest);
        peak = highest;
        sum *= factor;
        for (uint j = 0; j < PAIRS; ++j) sums[j] *= factor;
        for (uint i = 0; i < min(LANES, end - block); ++i) {
            const float weight = scores[i];
            if (weight == 0) continue;  // what is not seen may never have been written
            sum += weight;
            for (uint j = 0; j < PAIRS; ++j) {
                const uint pair = lane + j * LANES;
                if (2 * pair < p.head_dim) sums[j] += weight * two_values(all, values, block + i, pair);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    device float *part = arena + p.parts + (head * p.pieces + group.z) * (p.head_dim + 2);
    if (lane == 0) {
        part[0] = peak;
        part[1] = sum;
    }
    for (uint j = 0; j < PAIRS; ++j) {
        const uint d = 2 * (lane + j * LANES);
        if (d < p.head_dim) part[2 + d] = sums[j].x;
        if (d + 1 < p.head_dim) part[3 + d] = sums[j].y;
    }
}
