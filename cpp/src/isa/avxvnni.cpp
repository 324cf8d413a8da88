#define EDGEKIT_ISA avxvnni
#include "simd/avx2.h"
// clang-format off
#include "kernels/table.h"
