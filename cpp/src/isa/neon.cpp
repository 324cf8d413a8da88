#define EDGEKIT_ISA neon
#include "simd/neon.h"
// clang-format off
#include "kernels/table.h"
