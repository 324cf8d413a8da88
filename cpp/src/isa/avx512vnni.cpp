#define EDGEKIT_ISA avx512vnni
#include "simd/avx512.h"
// clang-format off
#include "kernels/table.h"
