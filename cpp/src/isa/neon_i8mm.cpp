#define EDGEKIT_ISA neon_i8mm
#define EDGEKIT_PRODUCTS_ALONE
#include "simd/neon.h"
// clang-format off
#include "kernels/table.h"
