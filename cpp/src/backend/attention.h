#pragma once
// What an attention layer is, for a backend that computes it by itself.

#include <cstdint>

#include "backend/weights.h"

namespace edgekit {

struct AttentionDescription {
    uint32_t n_heads, n_kv_heads, head_dim;
    int32_t rope;       // index into ModelSpec::ropes; -1: none
    uint32_t window;    // 0: global
    Linear q, k, v, o;  // k, v empty: see below
    NormWeights q_norm, k_norm;
    Linear gate;         // [n_heads or n_heads · head_dim, d_model]; empty: none
    const float* sinks;  // [n_heads] a score of each that no key has; nullptr: none
    bool own_cells;      // or those of the layer that LayerSpec::kv_layer names: no k, v
    bool k_eq_v;         // values are the keys before their norm: no v
};

// A mixer that is plain attention, once it is bound.
class AttentionLayer {
public:
    virtual AttentionDescription description() const = 0;

protected:
    ~AttentionLayer() = default;
};

}  // namespace edgekit
