// Python's string operations on UTF-8, counted in code points.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);
std::string swapcase(std::string_view text);

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
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t max_count);

// What is true of each code point of a text that is not empty.
bool is_alpha(std::string_view text);
bool is_alnum(std::string_view text);
bool is_digit(std::string_view text);  // also superscripts and the like
bool is_decimal(std::string_view text);
bool is_numeric(std::string_view text);  // also fractions and numerals
bool is_space_only(std::string_view text);
// At least one cased letter, and all of them of that case.
bool is_lower(std::string_view text);
bool is_upper(std::string_view text);
bool is_title(std::string_view text);

std::string escape_html(std::string_view text);

}  // namespace edgekit::tmpl
