#include "cpu/workspace.h"

#include <algorithm>

#include "quant/layouts.h"

namespace edgekit {

namespace {

// The most that any layer needs.
struct Widths {
    uint32_t mixed = 0, ffn = 0, experts = 0;
    bool dense_up = false;    // some gate or up projection reads float32
    bool dense_down = false;  // some down projection does
    Mixer::Bytes mixer;

    Widths(const ModelSpec& spec, const Weights& weights, const WorkspaceShape& shape) : ffn(spec.ple.dim) {
        for (size_t i = 0; i < spec.layers.size(); ++i) {
            const LayerWeights& layer = weights.layers[i];
            const Mixer::Bytes bytes = layer.mixer->bytes(shape);
            mixed = std::max(mixed, layer.mixer->width());
            mixer.shared = std::max(mixer.shared, bytes.shared);
            mixer.thread = std::max(mixer.thread, bytes.thread);
            ffn = std::max({ffn, spec.layers[i].d_ff, spec.moe.d_shared});
            experts = std::max(experts, spec.layers[i].n_experts);
            look_at(layer.dense);
            look_at(layer.ple);
            for (const FeedForward& expert : layer.experts) look_at(expert);
        }
    }
    void look_at(const FeedForward& part) {
        const auto dense = [](const Linear& linear) {
            return linear.weight && !layout_info(linear.weight.layout).quantized();
        };
        dense_up = dense_up || dense(part.gate) || dense(part.up);
        dense_down = dense_down || dense(part.down) || part.down_norm;
    }
};

Rows take_rows(Arena& arena, uint32_t n) { return {arena.take<Row>(n), arena.take<uint32_t>(n), 0, 0}; }

}  // namespace

PreparedRows take_prepared(Arena& arena, uint32_t rows, uint32_t width, bool with_floats) {
    PreparedRows out;
    if (with_floats) out.x = arena.take<float>(size_t{rows} * width);
    const size_t groups = size_t{rows} * row_groups(width);
    out.codes = arena.take<int8_t>(groups * kGroup);
    out.groups = arena.take<ActivationGroup>(groups);
    return out;
}

void Rows::add(const Row& next) {
    const auto follows = [&](const Row& last) {
        return last.sequence == next.sequence && last.position + 1 == next.position;
    };
    if (n == 0 || n - block[n_blocks - 1] == kBlockRows || !follows(row[n - 1])) block[n_blocks++] = n;
    row[n++] = next;
}

uint64_t Workspace::measure(const ModelSpec& spec, const Weights& weights, uint32_t n_threads,
                            const WorkspaceShape& shape) {
    Arena arena;
    Workspace(spec, weights, n_threads).take(shape, arena);
    return arena.used();
}

void Workspace::fit(const WorkspaceShape& wanted) {
    if (wanted.rows <= shape.rows && wanted.slots <= shape.slots) return;
    const WorkspaceShape larger{std::max(wanted.rows, shape.rows), std::max(wanted.slots, shape.slots)};
    AlignedMemory memory(measure(spec_, weights_, n_threads_, larger));
    memory_ = std::move(memory);
    Arena arena(memory_.data());
    take(larger, arena);
}

void Workspace::take(const WorkspaceShape& wanted, Arena& arena) {
    shape = wanted;
    const uint32_t n = shape.rows;
    const Widths widths(spec_, weights_, shape);
    const uint32_t widest = std::max({spec_.d_model, widths.mixed, weights_.ple_embed.k});
    rows = take_rows(arena, n);
    kept = take_rows(arena, n);
    x = arena.take<float>(size_t{n} * spec_.d_model);
    input = take_prepared(arena, n, widest, true);
    mixed = arena.take<float>(size_t{n} * widths.mixed);
    branch = arena.take<float>(size_t{n} * spec_.d_model);
    const uint32_t choices = widths.experts ? n * spec_.moe.top_k : 0;
    ffn = take_prepared(arena, std::max(n, choices), widths.ffn, widths.dense_down);
    ple = arena.take<float>(size_t{n} * weights_.ple_proj.weight.n);
    ropes.clear();
    for (const RopeSpec& rope : spec_.ropes) {
        const uint32_t half = rope.dim / 2;
        float* cos = arena.take<float>(size_t{n} * half);
        ropes.push_back({half, cos, arena.take<float>(size_t{n} * half)});
    }
    if (widths.experts) {
        router = arena.take<float>(size_t{n} * widths.experts);
        expert = arena.take<uint32_t>(choices);
        expert_weight = arena.take<float>(choices);
        shared_weight = arena.take<float>(n);
        of_experts = arena.take<float>(spec_.moe.own_norms ? size_t{n} * spec_.d_model : 0);
    }
    mixer = arena.take<std::byte>(widths.mixer.shared);
    threads.clear();
    for (uint32_t thread = 0; thread < n_threads_; ++thread) {
        ThreadScratch scratch{};
        scratch.row = take_prepared(arena, 1, widest, true);
        scratch.matmul = arena.take<std::byte>(matmul_scratch_bytes());
        scratch.gate = arena.take<float>(gate_floats(n));
        scratch.up = arena.take<float>(gate_floats(n));
        if (widths.experts) {
            scratch.experts = {arena.take<uint32_t>(widths.experts + 2), arena.take<uint32_t>(choices),
                               arena.take<uint32_t>(choices)};
            scratch.expert_rows =
                take_prepared(arena, std::min(choices, kExpertRows), spec_.d_model, widths.dense_up);
            scratch.down = arena.take<float>(size_t{gate_floats(n)} * spec_.moe.top_k);
        }
        scratch.mixer = arena.take<std::byte>(widths.mixer.thread);
        threads.push_back(scratch);
    }
}

}  // namespace edgekit
