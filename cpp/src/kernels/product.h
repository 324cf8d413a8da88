#pragma once
// Rows of quantized activations times tiles of 16 weight rows: what matmul and attention scores are made of.
//
// Either way adds a row's groups in the same order with the same operations, so that a result does not depend
// on how many rows are computed together.
//
// A scheme S (kernels/schemes) answers
//   kLayout                        its row of quant/, for the bytes of its codes
//   kRows                          at most so many rows are streamed
//   Sums                           what sums its products (simd/scalar.h)
//   for_each_line(codes, f)        f(j, line) for lines 0 … 7 of a group, as its Sums take them
//   scales(tile, g)                16 of a group
//   factors(tile, g)               the same as its Sums take them: floats, or bytes
//   row_scale(tile)                16 of the rows
//   minima(tile, n_groups, g)      where weights have them: 16 of a group
// A panel depends on the sums and the factors alone.

#include "kernels/panel.h"
#include "kernels/stream.h"

namespace edgekit::EDGEKIT_ISA {

// Calls sink(row, tile, y: the products of 16 weight rows) for m rows and tiles [begin, end).
template <class S, class Sink>
EDGEKIT_INLINE void quantized_product(const Tiles& w, size_t begin, size_t end, const Rows& x, uint32_t m,
                                      std::byte* scratch, Sink&& sink) {
    if (m == 0) return;
    if (m <= S::kRows) return stream_product<S>(w, begin, end, x, m, sink);
    panel_product<S>(w, begin, end, x, m, scratch, sink);
}

}  // namespace edgekit::EDGEKIT_ISA
