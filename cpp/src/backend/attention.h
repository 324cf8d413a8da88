#pragma once
// What an attention layer is, for a backend that computes it by itself.

#include <cstdint>

#include "backend/weights.h"

namespace edgekit {

struct AttentionDescription {
    uint32_t n_heads, n_kv_heads, head_dim;
    int32_t rope;     // index into ModelSpec::ropes; -1: none
    uint32_t window;  // 0: global
    Linear q, k, v, o;
    NormWeights q_norm, k_norm;
};

// A mixer that is plain attention, once it is bound.
class AttentionLayer {
public:
    virtual AttentionDescription description() const = 0;

protected:
    ~AttentionLayer() = default;
};

}  // namespace edgekit
