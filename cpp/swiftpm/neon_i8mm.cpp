#if defined(__aarch64__)
#include "target.h"

// simd/neon.h asks the compiler's macros, which follow flags, not attributes.
#undef __ARM_FEATURE_DOTPROD
#define __ARM_FEATURE_DOTPROD 1
#undef __ARM_FEATURE_MATMUL_INT8
#define __ARM_FEATURE_MATMUL_INT8 1

#pragma clang attribute push(__attribute__((target("dotprod,fullfp16,i8mm"))), apply_to = function)
#include "isa/neon_i8mm.cpp"
#pragma clang attribute pop
#endif
