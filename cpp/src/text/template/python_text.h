// Python's string operations on UTF-8, counted in code points.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/marked_text.h"

namespace edgekit::tmpl {

// All texts are valid UTF-8.
std::size_t count_code_points(std::string_view text);
// Reads the code point at byte `at` and moves behind it.
std::uint32_t next_code_point(std::string_view text, std::size_t& at);
// The byte where code point number `index` starts; the size of the text when it has fewer.
std::size_t byte_of(std::string_view text, std::size_t index);
std::u32string decode(std::string_view text);
std::string encode(std::u32string_view code_points);

// A string as repr() shows it, quotes included.
std::string quote_python(std::string_view text);

bool is_space(std::uint32_t code_point);  // str.isspace()

// Case, as Python maps it for the letters of Latin, Greek and Cyrillic that have one partner of one code
// point; other code points stay.
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);        // str.title(): words begin where no letter goes before
std::string title_words(std::string_view text);  // jinja2's: they begin behind whitespace and - ( { [ <

enum class Side { left = 1, right = 2, both = 3 };
// Without the code points of `chars` at its ends; whitespace when there are no `chars`.
std::string_view strip(std::string_view text, std::optional<std::string_view> chars, Side side);

using Pieces = std::vector<std::string_view>;
// str.split() and str.rsplit(): at whitespace when there is no separator. `max_splits` < 0: all.
Pieces split(std::string_view text, std::optional<std::string_view> separator, std::int64_t max_splits);
Pieces rsplit(std::string_view text, std::optional<std::string_view> separator, std::int64_t max_splits);
Pieces split_lines(std::string_view text, bool keep_ends);

std::size_t count(std::string_view text, std::string_view part);
// Replaces the first `max_count` of them; all when it is negative.
MarkedText replace(const MarkedText& text, std::string_view from, const MarkedText& to,
                   std::int64_t max_count);

MarkedText escape_html(const MarkedText& text);

}  // namespace edgekit::tmpl
