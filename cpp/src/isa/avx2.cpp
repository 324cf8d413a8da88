#define EDGEKIT_ISA avx2
#include "simd/avx2.h"
// clang-format off
#include "kernels/table.h"
