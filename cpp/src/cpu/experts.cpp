// A mixture of experts: each row goes through its own top_k feed-forward parts. The rows of a chunk are
// grouped by expert, so that a chunk reads an expert's weights once.

#include <algorithm>
#include <limits>

#include "cpu/decoder.h"

namespace edgekit {

// The top_k experts of every row, their weights and the shared one's. Ends with a barrier.
void Decoder::choose_experts(Step& step, uint32_t layer, const Activations& input) const {
    Workspace& memory = step.memory;
    const uint32_t n_experts = spec_.layers[layer].n_experts, top_k = spec_.moe.top_k;
    const LayerWeights& w = weights_.layers[layer];
    const MoeSpec& moe = spec_.moe;
    step.project({{w.router, input, {.out = memory.router, .stride = n_experts}},
                  {w.shared_gate, input, {.out = memory.shared_weight, .stride = 1}}});
    step.barrier();
    step.for_units(step.m(), [&](uint32_t first, uint32_t last) {
        for (uint32_t row = first; row < last; ++row) {
            float* scores = memory.router + size_t{row} * n_experts;
            uint32_t* chosen = memory.expert + size_t{row} * top_k;
            float* weight = memory.expert_weight + size_t{row} * top_k;
            float all = 1, sum = 0;
            if (moe.score == RouterScore::softmax)
                all = kernels_.exp_sum(scores, kernels_.max(scores, n_experts), scores, n_experts);
            else
                std::transform(scores, scores + n_experts, scores, sigmoid);
            const auto score = [&](uint32_t i) {
                return scores[i] + (w.router_choice ? w.router_choice[i] : 0);
            };
            for (uint32_t i = 0; i < top_k; ++i) {
                chosen[i] = 0;
                for (uint32_t expert = 1; expert < n_experts; ++expert)
                    if (score(expert) > score(chosen[i])) chosen[i] = expert;
                sum += weight[i] = scores[chosen[i]];
                scores[chosen[i]] = -std::numeric_limits<float>::infinity();
            }
            for (uint32_t i = 0; i < top_k; ++i)
                weight[i] *=
                    (w.router_scale ? w.router_scale[chosen[i]] : moe.scale) / (moe.normalize ? sum : all);
            memory.shared_weight[row] = moe.shared_gate ? sigmoid(memory.shared_weight[row]) : 1.0f;
        }
    });
    step.barrier();
}

// Every thread sorts for itself, which is cheaper than meeting at a barrier.
void Decoder::group_by_expert(Step& step, uint32_t n_experts) const {
    const ExpertGroups& groups = step.scratch.experts;
    const uint32_t n = step.m() * spec_.moe.top_k;
    const uint32_t* chosen = step.memory.expert;
    uint32_t* next =
        groups.begin + 1;  // the next place of each expert; in the end, where the one after begins
    std::fill_n(groups.begin, n_experts + 2, 0);
    for (uint32_t choice = 0; choice < n; ++choice) ++next[chosen[choice] + 1];
    for (uint32_t expert = 0; expert < n_experts; ++expert) next[expert + 1] += next[expert];
    for (uint32_t choice = 0; choice < n; ++choice) {
        const uint32_t place = next[chosen[choice]]++;
        groups.choice[place] = choice;
        groups.place[choice] = place;
    }
}

// The rows of n choices, one after the other. A single one stays where it is.
Activations Decoder::gather(const Activations& input, const uint32_t* choices, uint32_t n,
                            const PreparedRows& to) const {
    const uint32_t width = spec_.d_model, groups = row_groups(width);
    const auto row_of = [&](uint32_t i) { return rows_of(input, width, choices[i] / spec_.moe.top_k, 1); };
    if (n == 1) return row_of(0);
    for (uint32_t i = 0; i < n; ++i) {
        const Activations row = row_of(i);
        if (to.x) std::copy_n(row.x, width, to.x + size_t{i} * width);
        std::copy_n(row.codes, groups * kGroup, to.codes + size_t{i} * groups * kGroup);
        std::copy_n(row.groups, groups, to.groups + size_t{i} * groups);
    }
    return {to.x, width, to.codes, to.groups, n};
}

// False when the pass is given up.
bool Decoder::experts(Step& step, uint32_t layer, float scalar) const {
    Workspace& memory = step.memory;
    ThreadScratch& scratch = step.scratch;
    const LayerSpec& spec = spec_.layers[layer];
    const LayerWeights& w = weights_.layers[layer];
    const uint32_t d_model = spec_.d_model, top_k = spec_.moe.top_k, n_choices = step.m() * top_k;
    const bool shared = bool(w.dense.down.weight);
    if (shared) {
        feed_forward(step, layer);
        const Activations hidden{memory.ffn.x, spec_.moe.d_shared, memory.ffn.codes, memory.ffn.groups,
                                 step.m()};
        step.project(w.dense.down, hidden, {.out = memory.branch, .stride = d_model});
        step.barrier();
    }
    // Of results that are normalised before they are added.
    const auto norm_rows = [&](const NormWeights& weights, float* rows, bool add) {
        step.for_units(step.m(), [&](uint32_t first, uint32_t last) {
            for (size_t row = first; row < last; ++row) {
                float* x = rows + row * d_model;
                step.norm(spec_.norm, weights, x, d_model, x);
                if (add) kernels_.add(memory.branch + row * d_model, x, 1.0f, d_model);
            }
        });
        step.barrier();
    };
    const bool own_norms = spec_.moe.own_norms;
    if (own_norms) norm_rows(w.shared_post_norm, memory.branch, false);
    Activations input = step.prepare(own_norms ? w.router_norm : w.ffn_norm, memory.x, d_model);
    choose_experts(step, layer, input);
    if (own_norms) input = step.prepare(w.experts_norm, memory.x, d_model);
    const ExpertGroups& groups = scratch.experts;
    group_by_expert(step, spec.n_experts);
    const auto for_groups = [&](const auto& body) {
        for (uint32_t expert = 0; expert < spec.n_experts; ++expert)
            if (groups.begin[expert] < groups.begin[expert + 1])
                body(w.experts[expert], groups.begin[expert], groups.begin[expert + 1]);
    };

    // 32 columns of an expert are as many units as it has rows: so the threads have the same to do.
    const uint32_t units = (spec.d_ff + kGroup - 1) / kGroup;
    step.for_units(n_choices * units, [&](uint32_t first, uint32_t last) {
        for_groups([&](const FeedForward& expert, uint32_t begin, uint32_t end) {
            const auto column_unit = [&](uint32_t unit) {
                const uint32_t inside = std::clamp(unit, begin * units, end * units) - begin * units;
                return (inside + end - begin - 1) / (end - begin);
            };
            if (column_unit(first) == column_unit(last)) return;
            for (uint32_t place = begin; place < end; place += kExpertRows) {
                const Activations rows = gather(input, groups.choice + place,
                                                std::min(kExpertRows, end - place), scratch.expert_rows);
                gate_up(step, layer, expert, rows, place, column_unit(first), column_unit(last));
            }
        });
    });
    step.barrier();
    if (step.given_up()) return false;

    // Each result on its own, and then a row's in the order of its choices: the same sums in any company.
    const Activations hidden{memory.ffn.x, spec.d_ff, memory.ffn.codes, memory.ffn.groups, n_choices};
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a step has rows, and each has choices
    const uint32_t tiles_at_a_time = gate_floats(memory.shape.rows) * top_k / n_choices / kTileRows;
    const bool apart = w.ffn_post_norm || scalar != 1 || shared;
    float* out = own_norms ? memory.of_experts : apart ? memory.branch : memory.x;
    const float scale = apart ? 1.0f : spec_.residual_scale;
    step.for_units((d_model + kTileRows - 1) / kTileRows, [&](uint32_t first, uint32_t last) {
        for (uint32_t tile = first; tile < last; tile += tiles_at_a_time) {
            const uint32_t last_tile = std::min(tile + tiles_at_a_time, last);
            const uint32_t column = tile * kTileRows;
            const uint32_t columns = std::min(last_tile * kTileRows, d_model) - column;
            const size_t stride = size_t{last_tile - tile} * kTileRows;
            for_groups([&](const FeedForward& expert, uint32_t begin, uint32_t end) {
                step.apply(expert.down, rows_of(hidden, spec.d_ff, begin, end - begin),
                           {.out = scratch.down + begin * stride, .stride = stride, .first_column = column},
                           tile, last_tile);
            });
            for (uint32_t row = 0; row < step.m(); ++row) {
                float* sum = out + size_t{row} * d_model + column;
                const bool onto_shared = shared && !own_norms;
                if (apart && !onto_shared) std::fill_n(sum, columns, 0.0f);
                for (uint32_t i = 0; onto_shared && i < columns; ++i) sum[i] *= memory.shared_weight[row];
                for (uint32_t choice = row * top_k; choice < (row + 1) * top_k; ++choice)
                    kernels_.add(sum, scratch.down + groups.place[choice] * stride,
                                 memory.expert_weight[choice] * scale, columns);
            }
        }
    });
    step.barrier();
    if (own_norms) norm_rows(w.experts_post_norm, memory.of_experts, true);
    if (apart) step.add_branch(w.ffn_post_norm, scalar);
    return true;
}

}  // namespace edgekit
