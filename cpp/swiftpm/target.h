#pragma once
// SwiftPM allows no flags for one file alone. Each source here is one of cpp/src/isa under a target attribute
// that says what its flags in cmake/isas.cmake say. What the attribute must not reach comes first: the linker
// keeps one copy of an inline function, and that copy has to run on every processor.

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"

// Additions and multiplications are fused where a kernel says so and nowhere else.
#pragma STDC FP_CONTRACT OFF
