#pragma once
// ModelSpec as the converter wrote it (converters/spec.py documents every member); here the values that the
// decoder reads, checked. What only a kind of layer reads is its Mixer's.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/mixer.h"
#include "format/json.h"
#include "kernels/kernels.h"

namespace edgekit {

enum class Norm : uint8_t { rms, layer };
enum class QkNorm : uint8_t { none, head, full, layer_per_head, head_after_rope };
enum class AttnGate : uint8_t { none, head, full };
enum class RouterScore : uint8_t { softmax, sigmoid };

struct RopeSpec {
    uint32_t dim = 0;
    std::vector<double> inv_freq;  // [dim / 2]
    double factor = 1.0;
    std::vector<double> long_inv_freq;  // empty: none
    uint32_t original_context = 0;
};

struct LayerSpec {
    std::shared_ptr<const Mixer> mixer;  // without weights
    uint32_t d_ff = 0;
    uint32_t n_experts = 0;
    bool parallel = false;
    bool beside = false;    // the next layer's mixer reads what this one's reads
    int32_t kv_layer = -1;  // an earlier one, whose cells this one reads; -1: it has its own
};

// Per-layer embeddings: what every layer lets through its gate (converters/spec.py); dim == 0: none.
struct PerLayerEmbeddingSpec {
    uint32_t dim = 0;
    float proj_scale = 1, embed_scale = 1, scale = 1;
};

// A mixture of experts (converters/spec.py); top_k == 0: none.
struct MoeSpec {
    uint32_t top_k = 0;
    bool normalize = false;
    RouterScore score = RouterScore::softmax;
    float scale = 1;
    uint32_t d_shared = 0;  // 0: no shared expert
    bool shared_gate = false;
    bool own_norms = false;
};

struct ModelSpec {
    // Throws Error(invalid_file) for values out of range, Error(unsupported) for words this build does not
    // know.
    static ModelSpec parse(const json::Value& value);

    std::string model_type;
    uint32_t vocab_size = 0;
    uint32_t d_model = 0;
    uint32_t context = 0;
    std::vector<LayerSpec> layers;
    std::vector<RopeSpec> ropes;
    Norm norm = Norm::rms;
    float norm_eps = 0;
    Activation activation = Activation::silu;
    bool gated = true;
    QkNorm qk_norm = QkNorm::none;
    AttnGate attn_gate = AttnGate::none;
    bool v_norm = false;
    float attn_scale = 0;
    float attn_softcap = 0;
    float logit_softcap = 0;
    float embed_scale = 1;
    float residual_scale = 1;
    float logit_scale = 1;
    bool tied = true;
    MoeSpec moe;
    PerLayerEmbeddingSpec ple;
    uint32_t last_writer = 0;  // the last layer with cells of its own
};

// Throws Error(unsupported) for a member that is none of these: it would change what the model computes.
void know(const json::Value& value, std::string_view what, std::initializer_list<std::string_view> members);
// The whole number `key` of an object. Throws Error(invalid_file) when it is not in [low, high].
uint32_t count_at(const json::Value& value, std::string_view key, int64_t low, int64_t high);

}  // namespace edgekit
