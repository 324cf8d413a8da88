#define EDGEKIT_ISA neon_i8mm
#include "simd/neon.h"
// clang-format off
#include "kernels/table.h"
