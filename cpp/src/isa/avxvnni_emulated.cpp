#define EDGEKIT_ISA avxvnni_emulated
#define EDGEKIT_EMULATE_AVXVNNI
#include "simd/avx2.h"
// clang-format off
#include "kernels/table.h"
