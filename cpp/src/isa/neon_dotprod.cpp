#define EDGEKIT_ISA neon_dotprod
#include "simd/neon.h"
// clang-format off
#include "kernels/table.h"
