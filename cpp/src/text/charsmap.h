#pragma once
// SentencePiece's precompiled_charsmap: a double array (Darts) from byte sequences to their replacements.

#include <string>
#include <string_view>

namespace edgekit::text {

/// Rewrites `text` (valid UTF-8) as the `tokenizers` package does: a grapheme cluster shorter than 6 bytes as
/// a whole where the map has one of its prefixes, else code point by code point. `map`: u32 size of the array
/// in bytes, the array (u32 units), then replacements that end with NUL. Reads outside the map count as "not
/// found".
std::string apply_charsmap(std::string_view map, std::string_view text);

}  // namespace edgekit::text
