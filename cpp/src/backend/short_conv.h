#pragma once
// What a short convolution is, for a backend that computes it by itself.

#include <cstdint>

#include "backend/weights.h"

namespace edgekit {

struct ShortConvDescription {
    uint32_t d_model, kernel;
    Linear in, out;     // [3·d_model, d_model], [d_model, d_model]
    const float* conv;  // [d_model, kernel]
    const float* bias;  // [d_model] or nullptr
};

// A mixer that is a short convolution, once it is bound.
class ShortConvLayer {
public:
    virtual ShortConvDescription description() const = 0;

protected:
    ~ShortConvLayer() = default;
};

}  // namespace edgekit
