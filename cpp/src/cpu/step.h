#pragma once
// One pass as one thread of the team sees it, and what decoder and mixers compute with. Every member goes
// through the same phases, with a barrier between any two.

#include <cmath>
#include <functional>
#include <initializer_list>

#include "cpu/workspace.h"
#include "threads/thread_team.h"

namespace edgekit {

// Rows [first, first + m) of activations of this width.
inline Activations rows_of(const Activations& all, uint32_t width, uint32_t first, uint32_t m) {
    const size_t groups = size_t{first} * row_groups(width);
    return {all.x ? all.x + first * all.stride_x : nullptr, all.stride_x, all.codes + groups * kGroup,
            all.groups + groups, m};
}

inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

class Step {
public:
    static constexpr uint32_t kNever = UINT32_MAX;

    Step(const ModelSpec& spec, const Weights& weights, const Kernels& kernels, Workspace& memory,
         ThreadTeam& team, uint32_t thread, const GiveUp& give_up)
        : spec(spec),
          weights(weights),
          kernels(kernels),
          memory(memory),
          scratch(memory.threads[thread]),
          thread(thread),
          team_(team),
          give_up_(give_up),
          rows_(&memory.rows) {}

    const ModelSpec& spec;
    const Weights& weights;
    const Kernels& kernels;
    Workspace& memory;
    ThreadScratch& scratch;
    const uint32_t thread;

    // Those that are computed with: all of the pass, or those that have an output.
    const Rows& rows() const { return *rows_; }
    uint32_t m() const { return rows_->n; }
    // Those that go on after a layer's mixer: once the cells have all that they keep of a row, only rows
    // whose output is wanted.
    const Rows& kept(uint32_t layer) const { return layer >= spec.last_writer ? memory.kept : memory.rows; }
    // Goes on with those alone.
    void keep(uint32_t layer);

    void barrier() { team_.barrier(); }
    // See ThreadTeam::for_units.
    template <class F>
    void for_units(uint32_t n_units, F&& body) {
        team_.for_units(thread, n_units, body);
    }
    // Every member asks at the same places, with a barrier between any two. The first one looks, and all
    // leave at the look after that: by then each of them knows.
    bool given_up();

    void norm(Norm kind, const NormWeights& weights, const float* x, uint32_t n, float* out) const;
    // Every row of `source`, normalised unless there is no norm, as matmul reads it. A single row is prepared
    // by each thread for itself, which is cheaper than meeting at a barrier.
    Activations prepare(const NormWeights& weights, const float* source, uint32_t width);
    // Tiles [first_tile, last_tile) of a linear layer for every row of the input. Nothing else multiplies by
    // weights.
    void apply(const Linear& linear, const Activations& input, Store to, uint32_t first_tile,
               uint32_t last_tile);
    // This thread's share of a linear layer.
    void project(const Linear& linear, const Activations& input, const Store& to);
    // The same of several; those without weights, or rows, are left out.
    struct Product {
        const Linear& linear;
        const Activations& input;
        Store to;
    };
    void project(std::initializer_list<Product> products);
    // x = (x + residual_scale · post_norm(linear(input))) · scalar. Ends with a barrier.
    void add_to_residual(const Linear& linear, const Activations& input, const NormWeights& post_norm,
                         float scalar = 1);
    // x = (x + residual_scale · post_norm(branch)) · scalar. Ends with a barrier.
    void add_branch(const NormWeights& post_norm, float scalar);

private:
    ThreadTeam& team_;
    const GiveUp& give_up_;
    const Rows* rows_;
    uint32_t looks_ = 0;  // so far
};

}  // namespace edgekit
