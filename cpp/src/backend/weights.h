#pragma once
// A model's tensors, found in the file and checked against the spec's shapes. Nothing is copied.

#include <cstdint>
#include <memory>
#include <set>
#include <string>
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
    Linear gate;                     // [d_ff, d_model]; empty when not gated
    Linear up;                       // [d_ff, d_model]
    Linear down;                     // [d_model, d_ff]
    NormWeights down_norm;           // [d_ff] of what down reads; not of experts
    const float* alpha_p = nullptr;  // xIELU's two slopes
    const float* alpha_n = nullptr;
};

struct LayerWeights {
    NormWeights attn_norm, attn_post_norm, ffn_norm, ffn_post_norm;
    NormWeights o_norm;                    // [the mixer's width] of what it gives
    std::shared_ptr<const Mixer> mixer;    // with its weights
    FeedForward dense;                     // without experts, or the one that they share
    Linear shared_gate;                    // [1, d_model] how much of that one, or empty
    Linear router;                         // [n_experts, d_model]
    const float* router_choice = nullptr;  // [n_experts] added to scores when experts are chosen
    const float* router_scale = nullptr;   // [n_experts] of an expert's weight
    NormWeights router_norm, experts_norm, experts_post_norm, shared_post_norm;  // MoeSpec::own_norms
    std::vector<FeedForward> experts;
    FeedForward ple;  // per-layer embeddings: gate and down; what up would give is the token's
    NormWeights ple_post_norm;
    const float* scalar = nullptr;  // multiplies what the layer gives; nullptr: 1
};

struct Weights {
    // Throws Error(invalid_file) naming the first tensor that is missing or has another shape.
    Weights(const ModelSpec& spec, const EdgeFile& file);

    Matrix embed;  // [vocab_size, d_model]
    NormWeights embed_norm;
    Linear head;  // [vocab_size, d_model]; embed when tied
    NormWeights final_norm;
    // Per-layer embeddings: [16·vocab_size, layers·dim / 16], a token's numbers in one tile; then
    // [layers·dim, d_model] and [dim].
    Matrix ple_embed;
    Linear ple_proj;
    NormWeights ple_norm;
    std::vector<LayerWeights> layers;
    uint64_t bytes = 0;         // of all tensors above but ple_embed, as stored
    uint64_t n_parameters = 0;  // numbers in them
};

// Finds tensors by name, and counts what it found. All throw Error(invalid_file) for a tensor that is
// required but missing, or has another shape.
class Binder {
public:
    Binder(const EdgeFile& file, Weights& weights) : file_(file), weights_(weights) {}

    Matrix matrix(const std::string& name, uint32_t n, uint32_t k);  // [n, k]
    Matrix table(const std::string& name, uint32_t n, uint32_t k);   // of which a token reads one tile
    const float* vector(const std::string& name, uint32_t n, bool required);
    Linear linear(const std::string& name, uint32_t n, uint32_t k);
    NormWeights norm(const std::string& name, uint32_t n, bool required = false);
    // The same of the name `prefix` + `part`.
    const float* vector(const std::string& prefix, const char* part, uint32_t n, bool required);
    Linear linear(const std::string& prefix, const char* part, uint32_t n, uint32_t k);
    NormWeights norm(const std::string& prefix, const char* part, uint32_t n, bool required = false);
    FeedForward feed_forward(const std::string& prefix, const ModelSpec& spec, uint32_t d_ff);
    // Throws Error(unsupported) for a tensor of a layer that nobody asked for: what it says would be left
    // out.
    void check_all_found() const;

private:
    const EdgeFile& file_;
    Weights& weights_;
    std::set<std::string, std::less<>> found_;
};

}  // namespace edgekit
