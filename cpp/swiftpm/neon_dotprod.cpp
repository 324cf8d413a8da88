#if defined(__aarch64__)
#include "target.h"

// simd/neon.h asks the compiler's macros, which follow flags, not attributes.
#undef __ARM_FEATURE_DOTPROD
#define __ARM_FEATURE_DOTPROD 1

#pragma clang attribute push(__attribute__((target("dotprod,fullfp16"))), apply_to = function)
#include "isa/neon_dotprod.cpp"
#pragma clang attribute pop
#endif
