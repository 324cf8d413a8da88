#pragma once
// UTF-8 and the general category of a code point (Unicode 16).

#include <cstdint>
#include <string>
#include <string_view>

#include "text/unicode_tables.h"

namespace edgekit::text {

enum class Category : uint8_t {
    Cn,
    Cc,
    Cf,
    Co,
    Cs,
    Ll,
    Lm,
    Lo,
    Lt,
    Lu,
    Mc,
    Me,
    Mn,
    Nd,
    Nl,
    No,
    Pc,
    Pd,
    Pe,
    Pf,
    Pi,
    Po,
    Ps,
    Sc,
    Sk,
    Sm,
    So,
    Zl,
    Zp,
    Zs
};

inline Category category(uint32_t code_point) {
    const uint32_t block = tables::category_index[code_point >> tables::block_bits];
    const uint32_t within = code_point & ((1u << tables::block_bits) - 1);
    return static_cast<Category>(tables::category_blocks[(block << tables::block_bits) + within]);
}

constexpr std::string_view replacement_utf8 = "\xEF\xBF\xBD";

/// The property White_Space.
inline bool is_space(uint32_t c) {
    if (c < 128) return c == ' ' || (c >= 9 && c <= 13);
    const Category k = category(c);
    return c == 0x85 || k == Category::Zs || k == Category::Zl || k == Category::Zp;
}

/// Bytes of the sequence that starts with `lead`, in valid UTF-8.
inline unsigned sequence_length(uint8_t lead) {
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

inline bool is_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

struct CodePoint {
    uint32_t value;
    unsigned length;  // bytes
};

/// The code point at `p`, in valid UTF-8.
inline CodePoint decode_utf8(const char* p) {
    const auto byte = [p](unsigned i) { return static_cast<uint32_t>(static_cast<uint8_t>(p[i])); };
    const auto tail = [&](unsigned i) { return byte(i) & 0x3F; };
    if (byte(0) < 0x80) return {byte(0), 1};
    if (byte(0) < 0xE0) return {(byte(0) & 0x1F) << 6 | tail(1), 2};
    if (byte(0) < 0xF0) return {(byte(0) & 0x0F) << 12 | tail(1) << 6 | tail(2), 3};
    return {(byte(0) & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4};
}

/// The start of the code point before `p`, in valid UTF-8.
inline const char* previous_code_point(const char* p) {
    do --p;
    while (is_continuation(*p));
    return p;
}

void append_utf8(std::string& out, uint32_t code_point);

enum class Utf8 : uint8_t { complete, truncated, invalid };

/// Judges the sequence at `text[0]` (`text` is not empty). `length`: its bytes when complete; else the bytes
/// that are a proper prefix of some sequence (at least 1), which is what one U+FFFD replaces.
Utf8 scan_utf8(std::string_view text, unsigned& length);

/// The offset of the first byte that is not valid UTF-8, or npos.
size_t find_invalid_utf8(std::string_view text);

}  // namespace edgekit::text
