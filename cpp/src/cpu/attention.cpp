// The attention part of the decoder: projections, cache, softmax over the ring.

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/step.h"

namespace edgekit {

namespace {

void clear(const AttendState& state, uint32_t n, uint32_t head_dim) {
    std::fill_n(state.max, n, -std::numeric_limits<float>::infinity());
    std::fill_n(state.sum, n, 0.0f);
    std::fill_n(state.acc, size_t{n} * head_dim, 0.0f);
}

AttendState from(const AttendState& state, size_t query, uint32_t head_dim) {
    return {state.max + query, state.sum + query, state.acc + query * head_dim};
}

}  // namespace

// attended_ = softmax attention of every row. Ends with a barrier.
void Decoder::attention(Step& step, uint32_t layer, uint32_t thread) const {
    DecoderState& state = step.state;
    ThreadTeam& team = step.team;
    const LayerSpec& spec = spec_.layers[layer];
    const LayerWeights& w = weights_.layers[layer];
    ThreadScratch& scratch = step.scratch(thread);
    const uint32_t group = spec.n_heads / spec.n_kv_heads;
    const uint32_t head_dim = spec.head_dim;

    const Activations input = prepare(step, w.attn_norm, step.x(spec_.d_model), spec_.d_model, thread);
    const uint32_t kept = step.kept(layer);
    const Activations queries = rows_of(input, spec_.d_model, step.m - kept, kept);
    const uint32_t q_tiles = kept ? w.q.weight.n_tiles() : 0, k_tiles = w.k.weight.n_tiles(),
                   v_tiles = w.v.weight.n_tiles();
    team.for_units(thread, q_tiles + k_tiles + v_tiles, [&](uint32_t first, uint32_t last) {
        const auto part = [&](const Linear& linear, const Activations& rows, uint32_t offset, uint32_t tiles,
                              float* out) {
            const uint32_t begin = std::max(first, offset), end = std::min(last, offset + tiles);
            if (begin < end)
                apply(linear, rows, {.out = out, .stride = linear.weight.n}, begin - offset, end - offset,
                      scratch);
        };
        part(w.q, queries, 0, q_tiles, state.q_);
        part(w.k, input, q_tiles, k_tiles, state.k_);
        part(w.v, input, q_tiles + k_tiles, v_tiles, state.v_);
    });
    team.barrier();

    const bool stored = step.m > 1 || kept == 0;
    if (stored) {
        team.for_units(thread, spec.n_kv_heads * step.m, [&](uint32_t first, uint32_t last) {
            for (uint32_t unit = first; unit < last; ++unit)
                store_row(step, layer, unit / spec.n_kv_heads, unit % spec.n_kv_heads, scratch);
        });
        step.keep_last(kept);
        if (kept == 0) return;
        team.barrier();
    }

    const LayerRing& ring = step.layout.ring(layer);
    const uint32_t pieces = ring.pieces(std::min<uint64_t>(step.first + step.m, ring.slots));
    const auto finish = [&](const AttendState& result, uint32_t kv_head, uint32_t row) {
        float* out = state.attended_ + size_t{row} * spec.q_size() + size_t{kv_head} * group * head_dim;
        kernels_.attend_finish(step.layout.options().type, result, group, head_dim, out);
    };
    if (step.m == 1) {
        // A head's pieces side by side; whoever finishes its last one joins them. The new key and value are
        // written by whom they belong to: pieces share no tile.
        const uint32_t newest = ring.slot(step.first) / ring.piece;
        team.for_units(thread, spec.n_kv_heads * pieces, [&](uint32_t first, uint32_t last) {
            for (uint32_t unit = first; unit < last; ++unit) {
                const uint32_t head = unit / pieces, piece = unit % pieces;
                if (!stored && piece == newest) store_row(step, layer, 0, head, scratch);
                load_queries(step, layer, head, 0, 1, false, scratch);
                attend_piece(step, layer, head, 0, 1, piece,
                             from(state.pieces_, size_t{unit} * group, head_dim), scratch);
                if (state.pieces_done_[head].fetch_add(1, std::memory_order_acq_rel) + 1 < pieces) continue;
                state.pieces_done_[head].store(0, std::memory_order_relaxed);
                const AttendState joined = from(state.pieces_, size_t{head} * pieces * group, head_dim);
                for (uint32_t next = 1; next < pieces; ++next)
                    kernels_.attend_merge(
                        joined, from(state.pieces_, (size_t{head} * pieces + next) * group, head_dim), group,
                        head_dim);
                finish(joined, head, 0);
            }
        });
    } else {
        const uint32_t blocks = (step.m + kAttendRows - 1) / kAttendRows;
        team.for_units(thread, spec.n_kv_heads * blocks, [&](uint32_t first, uint32_t last) {
            for (uint32_t unit = first; unit < last; ++unit) {
                const uint32_t head = unit / blocks;
                const uint32_t first_row = unit % blocks * kAttendRows;
                const uint32_t last_row = std::min(first_row + kAttendRows, step.m);
                load_queries(step, layer, head, first_row, last_row, false, scratch);
                attend_piece(step, layer, head, first_row, last_row, 0, scratch.state, scratch);
                // Joined as a single token's are, so that a token's result is the same in any company.
                for (uint32_t piece = 1; piece < pieces; ++piece) {
                    attend_piece(step, layer, head, first_row, last_row, piece, scratch.piece, scratch);
                    kernels_.attend_merge(scratch.state, scratch.piece, (last_row - first_row) * group,
                                          head_dim);
                }
                for (uint32_t row = first_row; row < last_row; ++row)
                    finish(from(scratch.state, size_t{row - first_row} * group, head_dim), head, row);
            }
        });
    }
    team.barrier();
}

// Head `head` of a q or k row after the model's QK-norm; the row's own numbers when there is none.
const float* Decoder::normed_head(const float* row, const NormWeights& weights, uint32_t head,
                                  uint32_t n_heads, uint32_t head_dim, float* scratch) const {
    const size_t first = size_t{head} * head_dim;
    switch (spec_.qk_norm) {
        case QkNorm::none:
            return row + first;
        case QkNorm::head:
            norm(spec_.norm, weights, row + first, head_dim, scratch);
            return scratch;
        case QkNorm::full:
            norm(spec_.norm, weights, row, n_heads * head_dim, scratch);
            return scratch + first;
        case QkNorm::layer_per_head:
            norm(Norm::layer, {weights.weight + first, weights.bias ? weights.bias + first : nullptr},
                 row + first, head_dim, scratch);
            return scratch;
    }
    return row + first;
}

void Decoder::store_row(Step& step, uint32_t layer, uint32_t row, uint32_t kv_head,
                        ThreadScratch& scratch) const {
    DecoderState& state = step.state;
    const LayerSpec& spec = spec_.layers[layer];
    const float* k = normed_head(state.k_ + size_t{row} * spec.kv_size(), weights_.layers[layer].k_norm,
                                 kv_head, spec.n_kv_heads, spec.head_dim, scratch.head);
    float* rotated = scratch.q;  // free until the queries are loaded
    std::copy_n(k, spec.head_dim, rotated);
    if (spec.rope >= 0) {
        const DecoderState::Angles& angles = state.ropes_[spec.rope];
        kernels_.rope(rotated, 1, spec.head_dim, 2 * angles.half,
                      angles.cos + size_t{step.dropped + row} * angles.half,
                      angles.sin + size_t{step.dropped + row} * angles.half);
    }
    const float* v = state.v_ + size_t{row} * spec.kv_size() + size_t{kv_head} * spec.head_dim;
    kernels_.kv_store(step.sequence.head(step.layout, layer, kv_head, spec.head_dim),
                      step.layout.ring(layer).slot(step.first + row), rotated, v);
}

// The queries of rows [first_row, last_row) that share a key/value head, row by row, rotated and scaled.
void Decoder::load_queries(Step& step, uint32_t layer, uint32_t kv_head, uint32_t first_row,
                           uint32_t last_row, bool as_sinks_see, ThreadScratch& scratch) const {
    DecoderState& state = step.state;
    const LayerSpec& spec = spec_.layers[layer];
    const uint32_t group = spec.n_heads / spec.n_kv_heads;
    float* out = scratch.q;
    for (uint32_t row = first_row; row < last_row; ++row) {
        float* heads = out;
        for (uint32_t i = 0; i < group; ++i, out += spec.head_dim) {
            const float* q =
                normed_head(state.q_ + size_t{row} * spec.q_size(), weights_.layers[layer].q_norm,
                            kv_head * group + i, spec.n_heads, spec.head_dim, scratch.head);
            for (uint32_t d = 0; d < spec.head_dim; ++d) out[d] = q[d] * spec_.attn_scale;
        }
        if (spec.rope < 0) continue;
        const DecoderState::Angles& angles = state.ropes_[spec.rope];
        const bool capped = as_sinks_see && step.first + row >= step.layout.capacity();
        kernels_.rope(heads, group, spec.head_dim, 2 * angles.half,
                      capped ? angles.sink_cos : angles.cos + size_t{step.dropped + row} * angles.half,
                      capped ? angles.sink_sin : angles.sin + size_t{step.dropped + row} * angles.half);
    }
    const uint32_t n = (last_row - first_row) * group;
    if (attend_query_bytes(step.layout.options().type, spec.head_dim))
        kernels_.attend_query(step.layout.options().type, scratch.q, n, spec.head_dim, scratch.prepared_q);
}

// Unnormalised attention of rows [first_row, last_row), whose queries are loaded, over what they see of a
// piece of the ring.
void Decoder::attend_piece(Step& step, uint32_t layer, uint32_t kv_head, uint32_t first_row,
                           uint32_t last_row, uint32_t piece, const AttendState& result,
                           ThreadScratch& scratch) const {
    const LayerSpec& spec = spec_.layers[layer];
    const LayerRing& ring = step.layout.ring(layer);
    const uint32_t group = spec.n_heads / spec.n_kv_heads;
    const uint32_t n = (last_row - first_row) * group;
    const uint32_t piece_begin = piece * ring.piece, piece_end = piece_begin + ring.piece;
    clear(result, n, spec.head_dim);

    // Neighbouring positions [from, to) in neighbouring slots; each row sees of them what its window and
    // causality allow.
    const auto attend_run = [&](uint64_t from, uint64_t to, bool windowed) {
        const uint32_t slot = ring.slot(from);
        bool any = false;
        for (uint32_t row = first_row; row < last_row; ++row) {
            const uint64_t position = step.first + row;
            const uint64_t low = std::max(from, windowed ? ring.oldest(position) : 0);
            const uint64_t high = std::max(low, std::min(to, position + 1));
            const uint32_t begin = std::max(piece_begin, slot + static_cast<uint32_t>(low - from));
            const uint32_t end =
                std::max(begin, std::min(piece_end, slot + static_cast<uint32_t>(high - from)));
            any = any || begin < end;
            std::fill_n(scratch.begin + size_t{row - first_row} * group, group, begin);
            std::fill_n(scratch.end + size_t{row - first_row} * group, group, end);
        }
        if (!any) return;
        kernels_.attend({step.sequence.head(step.layout, layer, kv_head, spec.head_dim), scratch.q,
                         scratch.prepared_q, n, scratch.begin, scratch.end, spec_.attn_softcap, result,
                         scratch.attend});
    };

    const uint64_t first = step.first + first_row, last = step.first + last_row - 1;
    const uint64_t oldest = ring.oldest(first);
    if (oldest <= last) {
        // The ring may wrap inside the run: at most two parts.
        const uint64_t lap_end = ring.sinks + ((oldest - ring.sinks) / ring.ring + 1) * uint64_t{ring.ring};
        attend_run(oldest, std::min(last + 1, lap_end), true);
        if (last + 1 > lap_end) attend_run(lap_end, last + 1, true);
    }
    if (ring.sinks <= piece_begin) return;
    const bool capped = last >= step.layout.capacity();
    if (capped) load_queries(step, layer, kv_head, first_row, last_row, true, scratch);
    attend_run(0, std::min<uint64_t>(ring.sinks, last + 1), false);
    if (capped) load_queries(step, layer, kv_head, first_row, last_row, false, scratch);
}

}  // namespace edgekit
