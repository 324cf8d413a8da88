#include <algorithm>
#include <cmath>

#include "cpu/step.h"
#include "quant/layouts.h"

namespace edgekit {

namespace {

struct Widths {
    uint32_t q = 0, kv = 0, ffn = 0, group = 0, heads = 0, head_dim = 0, experts = 0;
    bool dense_up = false;    // some gate or up projection reads float32
    bool dense_down = false;  // some down projection does

    Widths(const ModelSpec& spec, const Weights& weights) {
        for (size_t i = 0; i < spec.layers.size(); ++i) {
            const LayerSpec& layer = spec.layers[i];
            q = std::max(q, layer.q_size());
            kv = std::max(kv, layer.kv_size());
            ffn = std::max(ffn, layer.d_ff);
            heads = std::max(heads, layer.n_heads);
            head_dim = std::max(head_dim, layer.head_dim);
            experts = std::max(experts, layer.n_experts);
            if (layer.n_kv_heads) group = std::max(group, layer.n_heads / layer.n_kv_heads);
            look_at(weights.layers[i].dense);
            for (const FeedForward& expert : weights.layers[i].experts) look_at(expert);
            if (layer.mixer == Mixer::conv) q = std::max(q, 3 * spec.d_model);
        }
    }
    void look_at(const FeedForward& part) {
        const auto dense = [](const Linear& linear) {
            return linear.weight && !layout_info(linear.weight.layout).quantized();
        };
        dense_up = dense_up || dense(part.gate) || dense(part.up);
        dense_down = dense_down || dense(part.down);
    }
};

PreparedRows take_rows(Arena& arena, uint32_t rows, uint32_t width, bool with_floats) {
    PreparedRows out;
    out.width = width;
    if (with_floats) out.x = arena.take<float>(size_t{rows} * width);
    const size_t groups = size_t{rows} * row_groups(width);
    out.codes = arena.take<int8_t>(groups * kGroup);
    out.groups = arena.take<ActivationGroup>(groups);
    return out;
}

AttendState take_attend_state(Arena& arena, uint32_t n, uint32_t head_dim) {
    return {arena.take<float>(n), arena.take<float>(n), arena.take<float>(size_t{n} * head_dim)};
}

}  // namespace

uint64_t DecoderState::measure(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout,
                               uint32_t n_threads) {
    return DecoderState(spec, weights, layout, n_threads, 0).arena_.used();
}

DecoderState::DecoderState(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout,
                           uint32_t n_threads)
    : DecoderState(spec, weights, layout, n_threads, measure(spec, weights, layout, n_threads)) {
    for (Angles& angles : ropes_) {
        for (uint32_t i = 0; i < angles.half; ++i) {
            const double angle = static_cast<double>(layout.capacity() - 1) * (*angles.inv_freq)[i];
            angles.sink_cos[i] = static_cast<float>(std::cos(angle)) * angles.factor;
            angles.sink_sin[i] = static_cast<float>(std::sin(angle)) * angles.factor;
        }
    }
}

// Without bytes: measures.
DecoderState::DecoderState(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout,
                           uint32_t n_threads, uint64_t bytes)
    : memory_(bytes ? AlignedMemory(bytes) : AlignedMemory()),
      arena_(memory_.data()),
      chunk_(layout.options().chunk) {
    take_buffers(spec, weights, layout, n_threads);
}

void DecoderState::take_buffers(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout,
                                uint32_t n_threads) {
    Arena& arena = arena_;
    const Widths widths(spec, weights);
    const uint32_t input = std::max(spec.d_model, widths.q);
    x_ = arena.take<float>(size_t{chunk_} * spec.d_model);
    h_ = take_rows(arena, chunk_, input, true);
    mixed_ = arena.take<float>(size_t{chunk_} * spec.d_model);
    q_ = arena.take<float>(size_t{chunk_} * widths.q);
    k_ = arena.take<float>(size_t{chunk_} * widths.kv);
    v_ = arena.take<float>(size_t{chunk_} * widths.kv);
    attended_ = arena.take<float>(size_t{chunk_} * input);
    const uint32_t choices = widths.experts ? chunk_ * spec.moe_top_k : 0;
    ffn_ = take_rows(arena, std::max(chunk_, choices), widths.ffn, widths.dense_down);

    const uint64_t capacity = layout.capacity();
    for (const RopeSpec& rope : spec.ropes) {
        Angles angles{};
        angles.inv_freq = !rope.long_inv_freq.empty() && capacity > rope.original_context
                              ? &rope.long_inv_freq
                              : &rope.inv_freq;
        angles.factor = static_cast<float>(rope.factor);
        angles.half = rope.dim / 2;
        angles.cos = arena.take<float>(size_t{chunk_} * angles.half);
        angles.sin = arena.take<float>(size_t{chunk_} * angles.half);
        angles.sink_cos = arena.take<float>(angles.half);
        angles.sink_sin = arena.take<float>(angles.half);
        ropes_.push_back(angles);
    }
    if (widths.experts) {
        router_ = arena.take<float>(size_t{chunk_} * widths.experts);
        expert_ = arena.take<uint32_t>(choices);
        expert_weight_ = arena.take<float>(choices);
    }
    uint32_t pieces = 0;
    for (size_t i = 0; i < spec.layers.size(); ++i)
        if (const LayerRing& ring = layout.ring(i); ring.piece)
            pieces = std::max(pieces, spec.layers[i].n_heads * ring.pieces(ring.slots));
    pieces_ = take_attend_state(arena, pieces, widths.head_dim);
    pieces_done_ = std::make_unique<std::atomic<uint32_t>[]>(widths.heads);

    const uint32_t queries = widths.group * std::min(chunk_, kAttendRows);
    for (uint32_t thread = 0; thread < n_threads; ++thread) {
        ThreadScratch scratch{};
        scratch.row = take_rows(arena, 1, input, true);
        scratch.matmul = arena.take<std::byte>(matmul_scratch_bytes());
        scratch.gate = arena.take<float>(gate_floats(chunk_));
        scratch.up = arena.take<float>(gate_floats(chunk_));
        if (widths.experts) {
            scratch.experts = {arena.take<uint32_t>(widths.experts + 2), arena.take<uint32_t>(choices),
                               arena.take<uint32_t>(choices)};
            scratch.expert_rows =
                take_rows(arena, std::min(choices, kExpertRows), spec.d_model, widths.dense_up);
            scratch.down = arena.take<float>(size_t{gate_floats(chunk_)} * spec.moe_top_k);
        }
        scratch.head = arena.take<float>(std::max(widths.q, widths.kv));
        scratch.q = arena.take<float>(size_t{queries} * widths.head_dim);
        scratch.prepared_q =
            arena.take<std::byte>(queries * attend_query_bytes(layout.options().type, widths.head_dim));
        scratch.begin = arena.take<uint32_t>(queries);
        scratch.end = arena.take<uint32_t>(queries);
        scratch.state = take_attend_state(arena, queries, widths.head_dim);
        scratch.piece = take_attend_state(arena, queries, widths.head_dim);
        scratch.attend = arena.take<std::byte>(attend_scratch_bytes(queries, widths.head_dim));
        threads_.push_back(scratch);
    }
}

}  // namespace edgekit
