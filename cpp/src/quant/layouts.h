#pragma once
// Every layout's row, by Layout.

#include <iterator>

#include "quant/dense.h"
#include "quant/q3_block32.h"
#include "quant/q4_affine32.h"
#include "quant/q4_block32.h"
#include "quant/q5_block32.h"
#include "quant/q6_block32.h"
#include "quant/q8_block32.h"

namespace edgekit {

inline constexpr LayoutInfo kLayouts[] = {dense::kF32,         dense::kF16,         dense::kBf16,
                                          q8_block32::kLayout, q4_block32::kLayout, q5_block32::kLayout,
                                          q6_block32::kLayout, q3_block32::kLayout, q4_affine32::kLayout};

constexpr const LayoutInfo& layout_info(Layout layout) { return kLayouts[static_cast<size_t>(layout)]; }

static_assert([] {
    for (size_t i = 0; i < std::size(kLayouts); ++i)
        if (kLayouts[i].layout != static_cast<Layout>(i)) return false;
    return true;
}());

}  // namespace edgekit
