#pragma once
// One decoder for every model the spec can describe. A forward pass is one run of the thread team: inside a
// layer the members meet at about five barriers, and each phase is split by tiles of the weights, key/value
// heads or rows.

#include <span>

#include "cpu/step.h"

namespace edgekit {

class Decoder {
public:
    Decoder(const ModelSpec& spec, const Weights& weights, const Kernels& kernels)
        : spec_(spec), weights_(weights), kernels_(kernels) {}

    // See Backend::forward. The parts have no more rows than the workspace is made for. What a row gives does
    // not depend on how many threads (at most the team's size) compute it.
    bool forward(std::span<const Part> parts, Output output, float* out, Workspace& memory, ThreadTeam& team,
                 uint32_t threads, const GiveUp& give_up) const;

private:
    void embed(Step& step) const;
    void layer_inputs(Step& step) const;
    bool layers(Step& step) const;
    void feed_forward(Step& step, uint32_t layer) const;
    void let_through(Step& step, uint32_t layer) const;
    void gate_up(Step& step, uint32_t layer, const FeedForward& ffn, const Activations& input,
                 uint32_t first_row_out, uint32_t first_unit, uint32_t last_unit) const;
    bool experts(Step& step, uint32_t layer, float scalar) const;
    void choose_experts(Step& step, uint32_t layer, const Activations& input) const;
    void group_by_expert(Step& step, uint32_t n_experts) const;
    Activations gather(const Activations& input, const uint32_t* choices, uint32_t n,
                       const PreparedRows& to) const;
    void hidden(Step& step, float* out) const;
    void logits(Step& step, float* out) const;

    const ModelSpec& spec_;
    const Weights& weights_;
    const Kernels& kernels_;
};

}  // namespace edgekit
