#define EDGEKIT_ISA scalar
#include "simd/scalar.h"
// clang-format off
#include "kernels/table.h"
