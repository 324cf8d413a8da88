// Upper, lower and title case of one code point, as Python maps it (Unicode 16).
#pragma once

#include <cstdint>
#include <string>

namespace edgekit::tmpl {

// Each appends UTF-8: one code point, or up to three (ß becomes SS).
void append_upper(std::string& out, char32_t c);
void append_lower(std::string& out, char32_t c);
void append_title(std::string& out, char32_t c);

bool is_upper_letter(char32_t c);
bool is_lower_letter(char32_t c);
bool is_cased(char32_t c);           // upper, lower or title case
bool is_case_ignorable(char32_t c);  // does not end a word: marks, apostrophes

bool is_digit_like(char32_t c);      // superscripts and other digits that are no decimals
bool is_numeral_letter(char32_t c);  // ideographs that mean a number

}  // namespace edgekit::tmpl
