#include "text/template_text.h"

#include <algorithm>

#include "text/template_case.h"
#include "text/unicode.h"

namespace edgekit::tmpl {

namespace {

using text::Category;

Category category(std::uint32_t c) { return text::category(c); }

bool is_printable(std::uint32_t c) {
    if (c == ' ') return true;
    switch (category(c)) {
        case Category::Cc:
        case Category::Cf:
        case Category::Cs:
        case Category::Co:
        case Category::Cn:
        case Category::Zl:
        case Category::Zp:
        case Category::Zs:
            return false;
        default:
            return true;
    }
}

bool is_letter(std::uint32_t c) {
    const Category k = category(c);
    return k == Category::Ll || k == Category::Lm || k == Category::Lo || k == Category::Lt ||
           k == Category::Lu;
}

bool is_line_end(std::uint32_t c) {
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool all_of(std::string_view text, auto&& is) {
    if (text.empty()) return false;
    for (std::size_t at = 0; at < text.size();) {
        if (!is(next_code_point(text, at))) return false;
    }
    return true;
}

std::string map_each(std::string_view text, auto&& map) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) map(out, next_code_point(text, at));
    return out;
}

// A capital sigma at the end of a word becomes the final small one.
bool is_final_sigma(const std::u32string& text, std::size_t at) {
    const auto is_ignorable = [](char32_t c) { return is_case_ignorable(c); };
    std::size_t before = at;
    while (before > 0 && is_ignorable(text[before - 1])) --before;
    if (before == 0 || !is_cased(text[before - 1])) return false;
    std::size_t after = at + 1;
    while (after < text.size() && is_ignorable(text[after])) ++after;
    return after == text.size() || !is_cased(text[after]);
}

constexpr char32_t capital_sigma = 0x3a3, final_sigma = 0x3c2;

void append_lower_at(std::string& out, const std::u32string& text, std::size_t at) {
    if (text[at] == capital_sigma && is_final_sigma(text, at))
        text::append_utf8(out, final_sigma);
    else
        append_lower(out, text[at]);
}

bool is_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

}  // namespace

std::size_t count_code_points(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::uint32_t next_code_point(std::string_view text, std::size_t& at) {
    const text::CodePoint code_point = text::decode_utf8(text.data() + at);
    at += code_point.length;
    return code_point.value;
}

std::size_t byte_of(std::string_view text, std::size_t index) {
    std::size_t at = 0;
    while (index-- > 0 && at < text.size()) at += text::sequence_length(static_cast<std::uint8_t>(text[at]));
    return at;
}

std::u32string decode(std::string_view text) {
    std::u32string out;
    for (std::size_t at = 0; at < text.size();) out += static_cast<char32_t>(next_code_point(text, at));
    return out;
}

std::string encode(std::u32string_view code_points) {
    std::string out;
    for (const char32_t c : code_points) text::append_utf8(out, c);
    return out;
}

std::string quote_python(std::string_view text) {
    const bool has_single = text.find('\'') != text.npos, has_double = text.find('"') != text.npos;
    const char quote = has_single && !has_double ? '"' : '\'';
    std::string out(1, quote);
    const auto append_hex = [&out](char prefix, std::uint32_t code, int digits) {
        (out += '\\') += prefix;
        for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
            out += "0123456789abcdef"[(code >> shift) & 15];
    };
    for (std::size_t at = 0; at < text.size();) {
        const std::uint32_t c = next_code_point(text, at);
        if (c == '\\' || c == static_cast<unsigned char>(quote))
            (out += '\\') += static_cast<char>(c);
        else if (c == '\n')
            out += "\\n";
        else if (c == '\r')
            out += "\\r";
        else if (c == '\t')
            out += "\\t";
        else if (is_printable(c))
            text::append_utf8(out, c);
        else if (c < 0x100)
            append_hex('x', c, 2);
        else if (c < 0x10000)
            append_hex('u', c, 4);
        else
            append_hex('U', c, 8);
    }
    return out += quote;
}

bool is_space(std::uint32_t c) { return (c >= 0x1c && c <= 0x1f) || text::is_space(c); }

// ---- case

std::string upper(std::string_view text) { return map_each(text, append_upper); }

std::string lower(std::string_view text) {
    if (is_ascii(text)) return map_each(text, append_lower);
    std::string out;
    const std::u32string code_points = decode(text);
    for (std::size_t i = 0; i < code_points.size(); ++i) append_lower_at(out, code_points, i);
    return out;
}

std::string capitalize(std::string_view text) {
    std::string out;
    const std::u32string code_points = decode(text);
    for (std::size_t i = 0; i < code_points.size(); ++i) {
        if (i == 0)
            append_title(out, code_points[i]);
        else
            append_lower_at(out, code_points, i);
    }
    return out;
}

std::string title(std::string_view text) {
    std::string out;
    const std::u32string code_points = decode(text);
    bool in_word = false;
    for (std::size_t i = 0; i < code_points.size(); ++i) {
        if (in_word)
            append_lower_at(out, code_points, i);
        else
            append_title(out, code_points[i]);
        in_word = is_cased(code_points[i]);
    }
    return out;
}

std::string swapcase(std::string_view text) {
    std::string out;
    const std::u32string code_points = decode(text);
    for (std::size_t i = 0; i < code_points.size(); ++i) {
        if (is_upper_letter(code_points[i]))
            append_lower_at(out, code_points, i);
        else if (is_lower_letter(code_points[i]))
            append_upper(out, code_points[i]);
        else
            text::append_utf8(out, code_points[i]);
    }
    return out;
}

// ---- pieces

std::string_view strip(std::string_view text, std::optional<std::string_view> chars, Side side) {
    const std::u32string set = chars ? decode(*chars) : std::u32string();
    const auto drop = [&](std::uint32_t c) {
        return chars ? set.find(static_cast<char32_t>(c)) != set.npos : is_space(c);
    };
    if (static_cast<int>(side) & static_cast<int>(Side::left)) {
        std::size_t at = 0;
        for (std::size_t next = 0; next < text.size(); at = next) {
            if (!drop(next_code_point(text, next))) break;
        }
        text.remove_prefix(at);
    }
    if (static_cast<int>(side) & static_cast<int>(Side::right)) {
        while (!text.empty()) {
            const char* last = text::previous_code_point(text.data() + text.size());
            if (!drop(text::decode_utf8(last).value)) break;
            text = text.substr(0, static_cast<std::size_t>(last - text.data()));
        }
    }
    return text;
}

Pieces split(std::string_view text, std::optional<std::string_view> separator, std::int64_t max_splits) {
    Pieces pieces;
    if (separator) {
        while (max_splits < 0 || static_cast<std::int64_t>(pieces.size()) < max_splits) {
            const std::size_t found = text.find(*separator);
            if (found == text.npos) break;
            pieces.push_back(text.substr(0, found));
            text.remove_prefix(found + separator->size());
        }
        pieces.push_back(text);
        return pieces;
    }
    for (text = strip(text, {}, Side::left); !text.empty(); text = strip(text, {}, Side::left)) {
        if (max_splits >= 0 && static_cast<std::int64_t>(pieces.size()) >= max_splits) {
            pieces.push_back(text);
            break;
        }
        std::size_t end = 0;
        for (std::size_t next = 0; next < text.size() && !is_space(next_code_point(text, next)); end = next) {
        }
        pieces.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return pieces;
}

Pieces rsplit(std::string_view text, std::optional<std::string_view> separator, std::int64_t max_splits) {
    Pieces pieces;
    if (separator) {
        while (max_splits < 0 || static_cast<std::int64_t>(pieces.size()) < max_splits) {
            const std::size_t found = text.rfind(*separator);
            if (found == text.npos) break;
            pieces.push_back(text.substr(found + separator->size()));
            text = text.substr(0, found);
        }
        pieces.push_back(text);
    } else {
        for (text = strip(text, {}, Side::right); !text.empty(); text = strip(text, {}, Side::right)) {
            if (max_splits >= 0 && static_cast<std::int64_t>(pieces.size()) >= max_splits) {
                pieces.push_back(text);
                break;
            }
            std::size_t start = text.size();
            while (start > 0) {
                const char* last = text::previous_code_point(text.data() + start);
                if (is_space(text::decode_utf8(last).value)) break;
                start = static_cast<std::size_t>(last - text.data());
            }
            pieces.push_back(text.substr(start));
            text = text.substr(0, start);
        }
    }
    std::reverse(pieces.begin(), pieces.end());
    return pieces;
}

Pieces split_lines(std::string_view text, bool keep_ends) {
    Pieces lines;
    std::size_t start = 0;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = at;
        const std::uint32_t c = next_code_point(text, at);
        if (!is_line_end(c)) continue;
        if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
        lines.push_back(text.substr(start, (keep_ends ? at : end) - start));
        start = at;
    }
    if (start < text.size()) lines.push_back(text.substr(start));
    return lines;
}

std::size_t count(std::string_view text, std::string_view part) {
    if (part.empty()) return count_code_points(text) + 1;
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
    return n;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t max_count) {
    std::string out;
    std::size_t at = 0;
    for (std::int64_t done = 0; max_count < 0 || done < max_count; ++done) {
        if (from.empty()) {
            out += to;
            if (at >= text.size()) break;
            const std::size_t start = at;
            next_code_point(text, at);
            out += text.substr(start, at - start);
            continue;
        }
        const std::size_t found = text.find(from, at);
        if (found == text.npos) break;
        out += text.substr(at, found - at);
        out += to;
        at = found + from.size();
    }
    if (at < text.size()) out += text.substr(at);
    return out;
}

// ---- classes

bool is_alpha(std::string_view text) { return all_of(text, is_letter); }

bool is_decimal(std::string_view text) {
    return all_of(text, [](std::uint32_t c) { return category(c) == Category::Nd; });
}

bool is_digit(std::string_view text) {
    return all_of(text, [](std::uint32_t c) { return category(c) == Category::Nd || is_digit_like(c); });
}

bool is_numeric(std::string_view text) {
    return all_of(text, [](std::uint32_t c) {
        const Category k = category(c);
        return k == Category::Nd || k == Category::Nl || k == Category::No || is_numeral_letter(c);
    });
}

bool is_alnum(std::string_view text) {
    return all_of(text, [](std::uint32_t c) {
        const Category k = category(c);
        return is_letter(c) || k == Category::Nd || k == Category::Nl || k == Category::No;
    });
}

bool is_space_only(std::string_view text) { return all_of(text, is_space); }

namespace {

bool has_case_only(std::string_view text, bool (*wanted)(char32_t), bool (*other)(char32_t)) {
    bool any = false;
    for (std::size_t at = 0; at < text.size();) {
        const std::uint32_t c = next_code_point(text, at);
        if (other(c) || category(c) == Category::Lt) return false;
        any = any || wanted(c);
    }
    return any;
}

}  // namespace

bool is_lower(std::string_view text) { return has_case_only(text, is_lower_letter, is_upper_letter); }
bool is_upper(std::string_view text) { return has_case_only(text, is_upper_letter, is_lower_letter); }

bool is_title(std::string_view text) {
    bool in_word = false, any = false;
    for (std::size_t at = 0; at < text.size();) {
        const std::uint32_t c = next_code_point(text, at);
        const bool starts = is_upper_letter(c) || category(c) == Category::Lt, goes_on = is_lower_letter(c);
        if ((starts && in_word) || (goes_on && !in_word)) return false;
        in_word = starts || goes_on;
        any = any || in_word;
    }
    return any;
}

std::string escape_html(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&#34;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default:
                out += c;
        }
    }
    return out;
}

}  // namespace edgekit::tmpl
