#pragma once
// A model's tensors, found in the file and checked against the spec's shapes. Nothing is copied.

#include <cstdint>
#include <vector>

#include "backend/spec.h"
#include "format/edge_file.h"
#include "quant/layout.h"

namespace edgekit {

// Weight and bias of a normalisation; weight == nullptr: not there.
struct NormWeights {
    const float* weight = nullptr;
    const float* bias = nullptr;
    explicit operator bool() const { return weight != nullptr; }
};

struct Linear {
    Matrix weight;  // [d_out, d_in]
    const float* bias = nullptr;
};

struct FeedForward {
    Linear gate;  // [d_ff, d_model]; empty when not gated
    Linear up;    // [d_ff, d_model]
    Linear down;  // [d_model, d_ff]
};

struct LayerWeights {
    NormWeights attn_norm, attn_post_norm, ffn_norm, ffn_post_norm;
    Linear q, k, v, o;            // attention
    NormWeights q_norm, k_norm;   // [head_dim], [q_size] or [n_heads, head_dim]: see QkNorm
    Linear conv_in, conv_out;     // convolution: [3·d_model, d_model], [d_model, d_model]
    const float* conv = nullptr;  // [d_model, conv_kernel]
    const float* conv_bias = nullptr;
    FeedForward dense;  // no experts
    Matrix router;      // [n_experts, d_model]
    std::vector<FeedForward> experts;
};

struct Weights {
    // Throws Error(invalid_file) naming the first tensor that is missing or has another shape.
    Weights(const ModelSpec& spec, const EdgeFile& file);

    Matrix embed;  // [vocab_size, d_model]
    Linear head;   // [vocab_size, d_model]; embed when tied
    NormWeights final_norm;
    std::vector<LayerWeights> layers;
    uint64_t bytes = 0;         // of all tensors above, as stored
    uint64_t n_parameters = 0;  // numbers in them
};

}  // namespace edgekit
