#pragma once
// ModelSpec as the converter wrote it (converters/spec.py documents every member); here the values that the
// decoder reads, checked.

#include <cstdint>
#include <string>
#include <vector>

#include "format/json.h"
#include "kernels/kernels.h"

namespace edgekit {

enum class Norm : uint8_t { rms, layer };
enum class QkNorm : uint8_t { none, head, full, layer_per_head };
enum class Mixer : uint8_t { attention, conv };

struct RopeSpec {
    uint32_t dim = 0;
    std::vector<double> inv_freq;  // [dim / 2]
    double factor = 1.0;
    std::vector<double> long_inv_freq;  // empty: none
    uint32_t original_context = 0;
};

struct LayerSpec {
    Mixer mixer = Mixer::attention;
    uint32_t n_heads = 0;
    uint32_t n_kv_heads = 0;
    uint32_t head_dim = 0;
    int32_t rope = -1;    // index into ModelSpec::ropes; -1: none
    uint32_t window = 0;  // 0: global
    uint32_t d_ff = 0;
    uint32_t n_experts = 0;
    uint32_t conv_kernel = 0;
    bool parallel = false;

    uint32_t q_size() const { return n_heads * head_dim; }
    uint32_t kv_size() const { return n_kv_heads * head_dim; }
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
    float attn_scale = 0;
    float attn_softcap = 0;
    float logit_softcap = 0;
    float embed_scale = 1;
    float residual_scale = 1;
    float logit_scale = 1;
    bool tied = true;
    uint32_t moe_top_k = 0;
    bool moe_normalize = false;
};

}  // namespace edgekit
