#include "cpu/decoder.h"

#include <algorithm>
#include <cassert>

#include "quant/layouts.h"

namespace edgekit {

bool Decoder::forward(std::span<const Part> parts, Output output, float* out, Workspace& memory,
                      ThreadTeam& team, uint32_t threads, const GiveUp& give_up) const {
    assert(threads <= memory.threads.size());
    memory.rows.clear();
    memory.kept.clear();
    for (const Part& part : parts) {
        assert(part.rows >= 1 && memory.rows.n + part.rows <= memory.shape.rows && part.wanted <= part.rows);
        for (uint32_t i = 0; i < part.rows; ++i) {
            const Row row{.sequence = static_cast<const Sequence*>(&part.context),
                          .layout = &part.layout,
                          .states = &part.states,
                          .position = part.position + i,
                          .place = memory.rows.n,
                          .id = part.ids ? part.ids[i] : 0,
                          .embedding = part.ids ? nullptr : part.embeddings + size_t{i} * spec_.d_model};
            assert(row.id >= 0 && uint32_t(row.id) < spec_.vocab_size);
            memory.rows.add(row);
            if (i + part.wanted >= part.rows) memory.kept.add(row);
        }
    }
    memory.last_look = Step::kNever;
    bool completed = false;
    team.run(threads, [&](uint32_t thread) {
        Step step(spec_, weights_, kernels_, memory, team, thread, give_up);
        embed(step);
        if (spec_.ple.dim) layer_inputs(step);
        const bool through = layers(step);
        if (through && step.m() > 0) output == Output::logits ? logits(step, out) : hidden(step, out);
        if (thread == 0) completed = through;
    });
    return completed;
}

// The residual stream's beginning, and the angles of every row. Ends with a barrier.
void Decoder::embed(Step& step) const {
    step.for_units(step.m(), [&](uint32_t first, uint32_t last) {
        for (size_t i = first; i < last; ++i) {
            const Row& row = step.rows().row[i];
            float* x = step.memory.x + i * spec_.d_model;
            if (row.embedding)
                std::copy_n(row.embedding, spec_.d_model, x);
            else
                kernels_.dequantize_row(weights_.embed, static_cast<uint32_t>(row.id), spec_.embed_scale, x);
            if (weights_.embed_norm && !row.embedding)
                step.norm(spec_.norm, weights_.embed_norm, x, spec_.d_model, x);
            for (size_t rope = 0; rope < spec_.ropes.size(); ++rope) {
                const Workspace::Angles& angles = step.memory.ropes[rope];
                row.sequence->rope(rope).angles(row.position, angles.cos + i * angles.half,
                                                angles.sin + i * angles.half);
            }
        }
    });
    step.barrier();
}

// What the layers let through of every row: [rows][layers][dim]. Ends with a barrier.
void Decoder::layer_inputs(Step& step) const {
    const PerLayerEmbeddingSpec& ple = spec_.ple;
    const auto numbers = static_cast<uint32_t>(spec_.layers.size()) * ple.dim, part = numbers / kTileRows;
    step.project(weights_.ple_proj, step.prepare({}, step.memory.x, spec_.d_model),
                 {.out = step.memory.ple, .stride = numbers, .scale = ple.proj_scale});
    step.barrier();
    step.for_units(step.m(), [&](uint32_t first, uint32_t last) {
        for (size_t row = first; row < last; ++row) {
            float* out = step.memory.ple + row * numbers;
            for (uint32_t at = 0; at < numbers; at += ple.dim)
                step.norm(spec_.norm, weights_.ple_norm, out + at, ple.dim, out + at);
            const auto tile = static_cast<uint32_t>(step.rows().row[row].id) * kTileRows;
            for (uint32_t i = 0; i < kTileRows; ++i) {
                kernels_.dequantize_row(weights_.ple_embed, tile + i, ple.embed_scale, step.scratch.row.x);
                kernels_.add(out + size_t{i} * part, step.scratch.row.x, 1.0f, part);
            }
            for (uint32_t i = 0; i < numbers; ++i) out[i] *= ple.scale;
        }
    });
    step.barrier();
}

// False when the pass is given up.
bool Decoder::layers(Step& step) const {
    Workspace& memory = step.memory;
    const NormWeights* waiting = nullptr;  // of the branch, while a mixer stands beside the next layer's
    for (uint32_t layer = 0; layer < spec_.layers.size(); ++layer) {
        if (step.given_up()) return false;
        const LayerSpec& spec = spec_.layers[layer];
        const LayerWeights& w = weights_.layers[layer];
        const Mixer& mixer = *w.mixer;
        mixer.run(step, layer, step.prepare(w.attn_norm, memory.x, spec_.d_model), memory.mixed);
        if (waiting) step.add_branch(*waiting, 1);
        waiting = nullptr;
        step.keep(layer);
        if (step.m() == 0) return true;
        if (spec.beside) {
            step.project(mixer.out(), step.prepare(w.o_norm, memory.mixed, mixer.width()),
                         {.out = memory.branch, .stride = spec_.d_model});
            step.barrier();
            waiting = &w.attn_post_norm;
            continue;
        }
        if (spec.parallel) feed_forward(step, layer);  // from the same residual stream, before it changes
        step.add_to_residual(mixer.out(), step.prepare(w.o_norm, memory.mixed, mixer.width()),
                             w.attn_post_norm);
        if (step.given_up()) return false;
        if (!spec.d_ff) continue;
        const float whole = w.scalar ? *w.scalar : 1.0f, scalar = spec_.ple.dim ? 1.0f : whole;
        const PreparedRows& ffn = memory.ffn;
        if (spec.n_experts) {
            if (!experts(step, layer, scalar)) return false;
        } else {
            if (!spec.parallel) feed_forward(step, layer);
            const Activations hidden{ffn.x, spec.d_ff, ffn.codes, ffn.groups, step.m()};
            step.add_to_residual(w.dense.down, hidden, w.ffn_post_norm, scalar);
        }
        if (!spec_.ple.dim) continue;
        let_through(step, layer);
        const Activations hidden{ffn.x, spec_.ple.dim, ffn.codes, ffn.groups, step.m()};
        step.add_to_residual(w.ple.down, hidden, w.ple_post_norm, whole);
    }
    return true;
}

// out = x > 0 ? alpha_p · x² + x / 2 : alpha_n · (eˣ - 1 - x) + x / 2 (xIELU, arXiv:2411.13010); scratch as
// long as x.
static void xielu(const Kernels& kernels, float alpha_p, float alpha_n, const float* x, uint32_t n,
                  float* scratch, float* out) {
    for (uint32_t i = 0; i < n; ++i) scratch[i] = std::min(x[i], -1e-6f);
    kernels.exp_sum(scratch, 0.0f, scratch, n);
    for (uint32_t i = 0; i < n; ++i)
        out[i] = 0.5f * x[i] + (x[i] > 0 ? alpha_p * x[i] * x[i] : alpha_n * (scratch[i] - 1.0f - x[i]));
}

// Columns [32·first_unit, 32·last_unit) of f(gate) · up for every row of the input, into the rows of ffn
// from `first_row_out`. Without a matrix `up` it is the layer's input from the per-layer embeddings.
void Decoder::gate_up(Step& step, uint32_t layer, const FeedForward& ffn, const Activations& input,
                      uint32_t first_row_out, uint32_t first_unit, uint32_t last_unit) const {
    ThreadScratch& scratch = step.scratch;
    const PreparedRows& out = step.memory.ffn;
    const uint32_t d_ff = ffn.down.weight.k;
    const bool gated = bool(ffn.gate.weight);
    const uint32_t groups = row_groups(d_ff);
    const bool quantized = layout_info(ffn.down.weight.layout).quantized() && !ffn.down_norm;
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a step has rows
    const uint32_t units_at_a_time = gate_floats(step.memory.shape.rows) / input.m / kGroup;
    for (uint32_t unit = first_unit; unit < last_unit; unit += units_at_a_time) {
        const uint32_t units = std::min(units_at_a_time, last_unit - unit);
        const uint32_t column = unit * kGroup;
        const uint32_t columns = std::min(units * kGroup, d_ff - column);
        const size_t stride = size_t{units} * kGroup;
        const uint32_t first_tile = column / kTileRows;
        const uint32_t last_tile = (column + columns + kTileRows - 1) / kTileRows;
        const auto compute = [&](const Linear& linear, float* to) {
            step.apply(linear, input, {.out = to, .stride = stride, .first_column = column}, first_tile,
                       last_tile);
        };
        if (ffn.up.weight) compute(ffn.up, scratch.up);
        if (gated) compute(ffn.gate, scratch.gate);
        for (uint32_t row = 0; row < input.m; ++row) {
            float* computed = scratch.up + row * stride;
            const float* up = ffn.up.weight
                                  ? computed
                                  : step.memory.ple + column +
                                        (step.rows().row[row].place * spec_.layers.size() + layer) * d_ff;
            const float* gate = gated ? scratch.gate + row * stride : up;
            const size_t out_row = first_row_out + row;
            float* result = quantized ? computed : out.x + out_row * d_ff + column;
            if (spec_.activation == Activation::xielu)
                xielu(kernels_, *ffn.alpha_p, *ffn.alpha_n, up, columns, scratch.gate, result);
            else
                kernels_.activate(spec_.activation, gate, gated ? up : nullptr, result, columns);
            if (quantized) {
                const size_t group = out_row * groups + unit;
                kernels_.quantize(result, columns, 1, columns, out.codes + group * kGroup,
                                  out.groups + group);
            }
        }
    }
}

// ffn = f(gate(h)) · up(h) of the normalised stream. Ends with a barrier.
void Decoder::feed_forward(Step& step, uint32_t layer) const {
    const LayerWeights& w = weights_.layers[layer];
    const NormWeights& norm_weights = spec_.layers[layer].parallel ? w.attn_norm : w.ffn_norm;
    const Activations input = step.prepare(norm_weights, step.memory.x, spec_.d_model);
    const uint32_t d_ff = w.dense.down.weight.k, units = (d_ff + kGroup - 1) / kGroup;
    step.for_units(
        units, [&](uint32_t first, uint32_t last) { gate_up(step, layer, w.dense, input, 0, first, last); });
    step.barrier();
    if (!w.dense.down_norm) return;
    const PreparedRows& ffn = step.memory.ffn;
    step.for_units(step.m(), [&](uint32_t first, uint32_t last) {
        for (size_t row = first; row < last; ++row) {
            float* x = ffn.x + row * d_ff;
            const size_t group = row * row_groups(d_ff);
            step.norm(spec_.norm, w.dense.down_norm, x, d_ff, x);
            kernels_.quantize(x, d_ff, 1, d_ff, ffn.codes + group * kGroup, ffn.groups + group);
        }
    });
    step.barrier();
}

// ffn = f(gate(x)) · the layer's input from the per-layer embeddings. Ends with a barrier.
void Decoder::let_through(Step& step, uint32_t layer) const {
    const Activations input = step.prepare({}, step.memory.x, spec_.d_model);
    step.for_units((spec_.ple.dim + kGroup - 1) / kGroup, [&](uint32_t first, uint32_t last) {
        gate_up(step, layer, weights_.layers[layer].ple, input, 0, first, last);
    });
    step.barrier();
}

void Decoder::hidden(Step& step, float* out) const {
    step.for_units(step.m(), [&](uint32_t first, uint32_t last) {
        for (size_t row = first; row < last; ++row)
            step.norm(spec_.norm, weights_.final_norm, step.memory.x + row * spec_.d_model, spec_.d_model,
                      out + row * spec_.d_model);
    });
}

void Decoder::logits(Step& step, float* out) const {
    const Activations input = step.prepare(weights_.final_norm, step.memory.x, spec_.d_model);
    const size_t vocab = spec_.vocab_size;
    const Store to{.out = out, .stride = vocab, .scale = spec_.logit_scale};
    step.for_units(weights_.head.weight.n_tiles(), [&](uint32_t first, uint32_t end) {
        step.apply(weights_.head, input, to, first, end);
        if (spec_.logit_softcap == 0) return;
        const size_t column = size_t{first} * kTileRows;
        const size_t columns = std::min(vocab, size_t{end} * kTileRows) - column;
        for (uint32_t row = 0; row < step.m(); ++row)
            kernels_.softcap(out + row * vocab + column, spec_.logit_softcap, columns);
    });
}

}  // namespace edgekit
