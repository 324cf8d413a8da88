#include <algorithm>
#include <cassert>
#include <cmath>

#include "cpu/step.h"
#include "quant/layouts.h"

namespace edgekit {

bool Decoder::forward(const Part& part, ThreadTeam& team, uint32_t threads, const GiveUp& give_up) const {
    auto& sequence = static_cast<Sequence&>(part.context);
    DecoderState& state = sequence.state;
    assert(part.rows >= 1 && part.rows <= state.chunk_ && threads <= state.threads_.size());
    assert(std::all_of(part.ids, part.ids + part.rows,
                       [&](int32_t id) { return id >= 0 && uint32_t(id) < spec_.vocab_size; }));
    const auto n_layers = static_cast<uint32_t>(spec_.layers.size());
    bool completed = false;
    state.last_look_ = Step::kNever;
    team.run(threads, [&](uint32_t thread) {
        Step step{.sequence = sequence,
                  .layout = part.layout,
                  .state = state,
                  .team = team,
                  .m = part.rows,
                  .n_layers = n_layers,
                  .wanted = part.wanted,
                  .logits = part.logits,
                  .first = part.position,
                  .give_up = give_up};
        embed(step, part.ids, thread);
        const bool through = layers(step, thread);
        if (through && step.m > 0) logits(step, thread);
        if (thread == 0) completed = through;
    });
    return completed;
}

// The residual stream's beginning, and the angles of every row. Ends with a barrier.
void Decoder::embed(Step& step, const int32_t* ids, uint32_t thread) const {
    step.team.for_units(thread, step.m, [&](uint32_t first, uint32_t last) {
        for (uint32_t row = first; row < last; ++row) {
            float* x = step.state.x_ + size_t{row} * spec_.d_model;
            kernels_.dequantize_row(weights_.embed, static_cast<uint32_t>(ids[row]), spec_.embed_scale, x);
            for (DecoderState::Angles& angles : step.state.ropes_) {
                for (uint32_t i = 0; i < angles.half; ++i) {
                    const double angle = static_cast<double>(step.first + row) * (*angles.inv_freq)[i];
                    angles.cos[size_t{row} * angles.half + i] =
                        static_cast<float>(std::cos(angle)) * angles.factor;
                    angles.sin[size_t{row} * angles.half + i] =
                        static_cast<float>(std::sin(angle)) * angles.factor;
                }
            }
        }
    });
    step.team.barrier();
}

// False when the pass is given up.
bool Decoder::layers(Step& step, uint32_t thread) const {
    const DecoderState& state = step.state;
    for (uint32_t layer = 0; layer < step.n_layers; ++layer) {
        if (step.given_up(thread)) return false;
        const LayerWeights& w = weights_.layers[layer];
        const bool attends = spec_.layers[layer].mixer == Mixer::attention;
        const bool parallel = spec_.layers[layer].parallel;
        if (attends)
            attention(step, layer, thread);
        else
            convolution(step, layer, thread);
        if (step.m == 0) return true;
        if (parallel) feed_forward(step, layer, thread);  // from the same residual stream, before it changes
        const uint32_t width = attends ? spec_.layers[layer].q_size() : spec_.d_model;
        const Activations mixed = prepare(step, {}, state.attended_, width, thread);
        add_to_residual(step, attends ? w.o : w.conv_out, mixed, w.attn_post_norm, thread);
        if (step.given_up(thread)) return false;
        if (spec_.layers[layer].n_experts) {
            if (!experts(step, layer, thread)) return false;
            continue;
        }
        if (!parallel) feed_forward(step, layer, thread);
        const uint32_t d_ff = spec_.layers[layer].d_ff;
        const Activations hidden{state.ffn_.x, d_ff, state.ffn_.codes, state.ffn_.groups, step.m};
        add_to_residual(step, w.dense.down, hidden, w.ffn_post_norm, thread);
    }
    return true;
}

void Decoder::norm(Norm kind, const NormWeights& weights, const float* x, uint32_t n, float* out) const {
    if (kind == Norm::rms)
        kernels_.rms_norm(x, weights.weight, n, spec_.norm_eps, out);
    else
        kernels_.layer_norm(x, weights.weight, weights.bias, n, spec_.norm_eps, out);
}

// Every row of `source`, normalised unless there is no norm, as matmul reads it. A single row is prepared by
// each thread for itself, which is cheaper than meeting at a barrier.
Activations Decoder::prepare(Step& step, const NormWeights& weights, const float* source, uint32_t width,
                             uint32_t thread) const {
    const auto prepare_row = [&](const PreparedRows& rows, uint32_t source_row, uint32_t row) {
        const float* from = source + size_t{source_row} * width;
        const uint32_t groups = row_groups(width);
        float* to = rows.x + size_t{row} * width;
        if (weights)
            norm(spec_.norm, weights, from, width, to);
        else
            std::copy_n(from, width, to);
        kernels_.quantize(to, width, 1, width, rows.codes + size_t{row} * groups * kGroup,
                          rows.groups + size_t{row} * groups);
    };
    const bool alone = step.m == 1;
    const PreparedRows& rows = alone ? step.scratch(thread).row : step.state.h_;
    if (alone) {
        prepare_row(rows, 0, 0);
    } else {
        step.team.for_units(thread, step.m, [&](uint32_t first, uint32_t last) {
            for (uint32_t row = first; row < last; ++row) prepare_row(rows, row, row);
        });
        step.team.barrier();
    }
    return {rows.x, width, rows.codes, rows.groups, step.m};
}

// Tiles [first_tile, last_tile) of a linear layer for every row of the input. Nothing else multiplies by
// weights.
void Decoder::apply(const Linear& linear, const Activations& input, Store to, uint32_t first_tile,
                    uint32_t last_tile, ThreadScratch& scratch) const {
    to.bias = linear.bias;
    kernels_.matmul(linear.weight, input, to, first_tile, last_tile, scratch.matmul);
}

// This thread's share of a linear layer.
void Decoder::project(Step& step, const Linear& linear, const Activations& input, const Store& to,
                      uint32_t thread) const {
    step.team.for_units(thread, linear.weight.n_tiles(), [&](uint32_t first, uint32_t last) {
        apply(linear, input, to, first, last, step.scratch(thread));
    });
}

// x += residual_scale · post_norm(linear(input)). Ends with a barrier.
void Decoder::add_to_residual(Step& step, const Linear& linear, const Activations& input,
                              const NormWeights& post_norm, uint32_t thread) const {
    const uint32_t d_model = spec_.d_model;
    Store to{.out = step.x(d_model), .stride = d_model, .scale = spec_.residual_scale, .add = true};
    if (post_norm) to = {.out = step.state.mixed_, .stride = d_model};
    project(step, linear, input, to, thread);
    step.team.barrier();
    if (post_norm) add_mixed(step, post_norm, thread);
}

// x += residual_scale · post_norm(mixed_). Ends with a barrier.
void Decoder::add_mixed(Step& step, const NormWeights& post_norm, uint32_t thread) const {
    const uint32_t d_model = spec_.d_model;
    step.team.for_units(thread, step.m, [&](uint32_t first, uint32_t last) {
        for (uint32_t row = first; row < last; ++row) {
            float* mixed = step.state.mixed_ + size_t{row} * d_model;
            norm(spec_.norm, post_norm, mixed, d_model, mixed);
            kernels_.add(step.x(d_model) + size_t{row} * d_model, mixed, spec_.residual_scale, d_model);
        }
    });
    step.team.barrier();
}

// A gated short convolution over time (LFM2): B, C, x = conv_in(norm(h)); attended_ = C · conv(B · x). Ends
// with a barrier.
void Decoder::convolution(Step& step, uint32_t layer, uint32_t thread) const {
    DecoderState& state = step.state;
    const LayerWeights& w = weights_.layers[layer];
    const uint32_t d_model = spec_.d_model;
    const uint32_t kernel = spec_.layers[layer].conv_kernel;
    const uint32_t kept = step.kept(layer);
    const Activations input = prepare(step, w.attn_norm, step.x(d_model), d_model, thread);
    project(step, w.conv_in, input, {state.q_, size_t{3} * d_model}, thread);
    step.team.barrier();
    step.team.for_units(thread, round_up(d_model, kGroup) / kGroup, [&](uint32_t first, uint32_t last) {
        const uint32_t from = first * kGroup;
        const uint32_t to = std::min(last * kGroup, d_model);
        for (uint32_t row = 0; row < step.m; ++row) {
            const float* bcx = state.q_ + size_t{row} * 3 * d_model;
            const uint64_t position = step.first + row;
            float* now = step.sequence.cell(step.layout.ring(layer), position);
            for (uint32_t c = from; c < to; ++c) now[c] = bcx[c] * bcx[2 * d_model + c];
            if (row < step.m - kept) continue;
            float* out = state.attended_ + size_t{row - (step.m - kept)} * d_model;
            for (uint32_t c = from; c < to; ++c) out[c] = w.conv_bias ? w.conv_bias[c] : 0.0f;
            for (uint32_t tap = 0; tap < kernel && tap <= position; ++tap) {
                const float* past = step.sequence.cell(step.layout.ring(layer), position - tap);
                for (uint32_t c = from; c < to; ++c)
                    out[c] += w.conv[size_t{c} * kernel + kernel - 1 - tap] * past[c];
            }
            for (uint32_t c = from; c < to; ++c) out[c] *= bcx[d_model + c];
        }
    });
    step.keep_last(kept);
    step.team.barrier();
}

// Columns [32·first_unit, 32·last_unit) of f(gate) · up for every row of the input, into the rows of ffn_
// from `first_row_out`.
void Decoder::gate_up(Step& step, const FeedForward& ffn, const Activations& input, uint32_t first_row_out,
                      uint32_t first_unit, uint32_t last_unit, ThreadScratch& scratch) const {
    const PreparedRows& out = step.state.ffn_;
    const uint32_t d_ff = ffn.up.weight.n;
    const uint32_t groups = row_groups(d_ff);
    const bool quantized = layout_info(ffn.down.weight.layout).quantized();
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a step has rows
    const uint32_t units_at_a_time = gate_floats(step.state.chunk_) / input.m / kGroup;
    for (uint32_t unit = first_unit; unit < last_unit; unit += units_at_a_time) {
        const uint32_t units = std::min(units_at_a_time, last_unit - unit);
        const uint32_t column = unit * kGroup;
        const uint32_t columns = std::min(units * kGroup, d_ff - column);
        const size_t stride = size_t{units} * kGroup;
        const uint32_t first_tile = column / kTileRows;
        const uint32_t last_tile = (column + columns + kTileRows - 1) / kTileRows;
        const auto compute = [&](const Linear& linear, float* to) {
            apply(linear, input, {.out = to, .stride = stride, .first_column = column}, first_tile, last_tile,
                  scratch);
        };
        compute(ffn.up, scratch.up);
        if (spec_.gated) compute(ffn.gate, scratch.gate);
        for (uint32_t row = 0; row < input.m; ++row) {
            float* up = scratch.up + row * stride;
            const float* gate = spec_.gated ? scratch.gate + row * stride : up;
            const size_t out_row = first_row_out + row;
            float* result = quantized ? up : out.x + out_row * d_ff + column;
            kernels_.activate(spec_.activation, gate, spec_.gated ? up : nullptr, result, columns);
            if (quantized) {
                const size_t group = out_row * groups + unit;
                kernels_.quantize(result, columns, 1, columns, out.codes + group * kGroup,
                                  out.groups + group);
            }
        }
    }
}

// ffn_ = f(gate(h)) · up(h) of the normalised stream. Ends with a barrier.
void Decoder::feed_forward(Step& step, uint32_t layer, uint32_t thread) const {
    const LayerWeights& w = weights_.layers[layer];
    const NormWeights& norm_weights = spec_.layers[layer].parallel ? w.attn_norm : w.ffn_norm;
    const Activations input = prepare(step, norm_weights, step.x(spec_.d_model), spec_.d_model, thread);
    const uint32_t units = (spec_.layers[layer].d_ff + kGroup - 1) / kGroup;
    step.team.for_units(thread, units, [&](uint32_t first, uint32_t last) {
        gate_up(step, w.dense, input, 0, first, last, step.scratch(thread));
    });
    step.team.barrier();
}

void Decoder::logits(Step& step, uint32_t thread) const {
    const Activations input =
        prepare(step, weights_.final_norm, step.x(spec_.d_model), spec_.d_model, thread);
    const size_t vocab = spec_.vocab_size;
    const Store to{.out = step.logits, .stride = vocab, .scale = spec_.logit_scale};
    step.team.for_units(thread, weights_.head.weight.n_tiles(), [&](uint32_t first, uint32_t end) {
        apply(weights_.head, input, to, first, end, step.scratch(thread));
        if (spec_.logit_softcap == 0) return;
        const size_t column = size_t{first} * kTileRows;
        const size_t columns = std::min(vocab, size_t{end} * kTileRows) - column;
        for (uint32_t row = 0; row < step.m; ++row)
            kernels_.softcap(step.logits + row * vocab + column, spec_.logit_softcap, columns);
    });
}

}  // namespace edgekit
