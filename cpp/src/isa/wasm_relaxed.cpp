#define EDGEKIT_ISA wasm_relaxed
#include "simd/wasm.h"
// clang-format off
#include "kernels/table.h"
