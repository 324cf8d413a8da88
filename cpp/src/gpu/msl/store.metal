// The norm of queries and keys, their rotation, and keys and values into their cells. Grid: heads of the queries, then
// of the keys and values; rows.

struct Params {
    uint n_heads, n_kv_heads, head_dim, half_dim, angles, sink_angles, q, k, v, q_out, q_sink, ring, layer, qk_norm, kind,
        q_weight, q_bias, k_weight, k_bias, kept;
    float eps, scale;
};

// Head `index` of a row at `row`, normalised and scaled, into `head`.
inline void load(constant Params &p, device const float *row, uint index, uint n, device const float *vectors, uint weight,
                 uint bias, float scale, uint lane, threadgroup float *partial, threadgroup float *head) {
    device const float *x = row + index * p.head_dim;
    float mean = 0, factor = 1;
    const bool before = p.qk_norm != 0 && p.qk_norm != 4;
    if (before) {
        device const float *source = p.qk_norm == 2 ? row : x;
        const uint width = p.qk_norm == 2 ? n * p.head_dim : p.head_dim;
        if (p.kind == 2 || p.qk_norm == 3) {
            float sum = 0;
            for (uint d = lane; d < width; d += LANES) sum += source[d];
            mean = total(sum, lane, partial) / float(width);
        }
        float squares = 0;
        for (uint d = lane; d < width; d += LANES) squares += (source[d] - mean) * (source[d] - mean);
        factor = 1.0f / sqrt(total(squares, lane, partial) / float(width) + p.eps);
    }
    for (uint d = lane; d < p.head_dim; d += LANES) {
        float y = (x[d] - mean) * factor;
        if (before) {
            const uint at = p.qk_norm == 1 ? d : index * p.head_dim + d;
            if (weight != NONE) y *= vectors[weight + at];
            if (bias != NONE) y += vectors[bias + at];
        }
        head[d] = p.qk_norm == 4 ? y : y * scale;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

// Dimension d of the head, rotated by a row of a table: cosines, then sines.
inline float rotated(threadgroup const float *head, uint d, device const float *angles, uint half_dim) {
    if (d >= 2 * half_dim) return head[d];
    const uint i = d % half_dim;
    const float c = angles[i], s = angles[half_dim + i];
    return d < half_dim ? head[i] * c - head[i + half_dim] * s : head[i + half_dim] * c + head[i] * s;
}

// Head `head`, rotated, to `to`; normalised and scaled then, where the norm comes after the rotation.
template <class Out>
inline void rotate(constant Params &p, threadgroup const float *head, device const float *angles, device const float *vectors,
                   uint weight, float scale, uint lane, threadgroup float *partial, Out to) {
    float factor = 1;
    if (p.qk_norm == 4) {
        float squares = 0;
        for (uint d = lane; d < p.head_dim; d += LANES) {
            const float y = rotated(head, d, angles, p.half_dim);
            squares += y * y;
        }
        factor = scale / sqrt(total(squares, lane, partial) / float(p.head_dim) + p.eps);
    }
    for (uint d = lane; d < p.head_dim; d += LANES) {
        const float y = rotated(head, d, angles, p.half_dim) * factor;
        to[d] = p.qk_norm == 4 && weight != NONE ? y * vectors[weight + d] : y;
    }
}

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    threadgroup float head[HEAD_DIM], keys[HEAD_DIM], partial[LANES / SIMD];
    const uint row = group.y;
    device const uint *ring = rows + p.ring + 8 * row;
    device const float *angles = (device const float *)rows + p.angles + row * 2 * p.half_dim;
    if (group.x < p.n_heads) {
        if (row < first_row(rows, p.kept)) return;
        const uint base = row * p.n_heads * p.head_dim, to = base + group.x * p.head_dim;
        load(p, arena + p.q + base, group.x, p.n_heads, vectors, p.q_weight, p.q_bias, p.scale, lane, partial, head);
        device const float *sink_angles = ring[6] ? (device const float *)rows + p.sink_angles : angles;
        rotate(p, head, angles, vectors, p.q_weight, p.scale, lane, partial, arena + p.q_out + to);
        rotate(p, head, sink_angles, vectors, p.q_weight, p.scale, lane, partial, arena + p.q_sink + to);
        return;
    }
    const uint kv_head = group.x - p.n_heads, base = row * p.n_kv_heads * p.head_dim;
    load(p, arena + p.k + base, kv_head, p.n_kv_heads, vectors, p.k_weight, p.k_bias, 1.0f, lane, partial, head);
    rotate(p, head, angles, vectors, p.k_weight, 1.0f, lane, partial, keys);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const Cells all = {cells, rows[p.layer], rows[p.layer + 1], p.head_dim};
    store_cells(all, kv_head, ring[0], keys, arena + p.v + base + kv_head * p.head_dim, lane);
}
