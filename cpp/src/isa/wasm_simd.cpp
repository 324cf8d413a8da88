#define EDGEKIT_ISA wasm_simd
#include "simd/wasm.h"
// clang-format off
#include "kernels/table.h"
