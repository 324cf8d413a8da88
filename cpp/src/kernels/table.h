#pragma once
// The table of one instruction set. isa/<isa>.cpp defines EDGEKIT_ISA, includes its simd header and then this
// one. With EDGEKIT_PRODUCTS_ALONE the table has what multiplies codes; dispatch.cpp takes the rest from the
// instruction set that this one extends, whose code it would be.

#include "kernels/kernels.h"
// (order matters: each builds on those before it)
#include "kernels/maths.h"
#include "kernels/elementwise.h"
#include "kernels/quantize.h"
#include "kernels/matmul.h"
#include "kernels/attend.h"
#include "kernels/scan.h"

namespace edgekit::EDGEKIT_ISA {

#define EDGEKIT_NAME_OF(isa) #isa
#define EDGEKIT_NAME(isa) EDGEKIT_NAME_OF(isa)

extern const Kernels table;
// NOLINTNEXTLINE(misc-definitions-in-headers): each instruction set's file includes this once
const Kernels table = {
    .isa = EDGEKIT_NAME(EDGEKIT_ISA),
    .quantize = quantize,
    .matmul = matmul,
    .attend_query = attend_query,
    .attend = attend,
#ifndef EDGEKIT_PRODUCTS_ALONE
    .dequantize_row = dequantize_row,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .rope = rope,
    .activate = activate,
    .add = add,
    .softcap = softcap,
    .max = max,
    .exp_sum = exp_sum,
    .kv_store = kv_store,
    .kv_load = kv_load,
    .attend_merge = attend_merge,
    .attend_finish = attend_finish,
    .scan = scan,
#endif
};

}  // namespace edgekit::EDGEKIT_ISA
