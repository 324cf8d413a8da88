#pragma once
// The arrays that tools/unicode_tables.py writes. Read them through unicode.h and normalize.h.

#include <cstddef>
#include <cstdint>

namespace edgekit::text::tables {

constexpr unsigned block_bits = 7;  // code points a block: 1 << block_bits

extern const uint16_t category_index[];
extern const uint8_t category_blocks[];

extern const uint16_t normalization_index[];
extern const uint8_t normalization_blocks[];  // -> a row of the two arrays below
extern const uint8_t normalization_ccc[];     // canonical combining class
extern const uint8_t
    normalization_unstable[];  // bit i: NormalForm i may change the code point or its neighbour

extern const size_t canonical_count, compatibility_count, composition_count;
extern const uint32_t canonical_keys[], canonical_pool[];
extern const uint16_t canonical_starts[];
extern const uint32_t compatibility_keys[], compatibility_pool[];
extern const uint16_t compatibility_starts[];
extern const uint32_t composition_first[], composition_second[], composition_result[];

}  // namespace edgekit::text::tables
