#include "text/template/python_text.h"

#include <algorithm>

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

bool is_line_end(std::uint32_t c) {
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
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

namespace {

// The small letters first, first + stride, ... last; their capitals lie `distance` further on.
struct Letters {
    char32_t first, last, stride;
    std::int32_t distance;
};

// Latin, Greek and Cyrillic, where a letter and its partner are one code point each.
constexpr Letters letters[] = {
    {U'a', U'z', 1, -32},    {0xe0, 0xf6, 1, -32},   {0xf8, 0xfe, 1, -32},   {0xff, 0xff, 1, 121},
    {0x101, 0x12f, 2, -1},   {0x133, 0x137, 2, -1},  {0x13a, 0x148, 2, -1},  {0x14b, 0x177, 2, -1},
    {0x17a, 0x17e, 2, -1},   {0x1ce, 0x1dc, 2, -1},  {0x1df, 0x1ef, 2, -1},  {0x1f9, 0x21f, 2, -1},
    {0x3ac, 0x3ac, 1, -38},  {0x3ad, 0x3af, 1, -37}, {0x3b1, 0x3c1, 1, -32}, {0x3c3, 0x3cb, 1, -32},
    {0x3cc, 0x3cc, 1, -64},  {0x3cd, 0x3ce, 1, -63}, {0x430, 0x44f, 1, -32}, {0x450, 0x45f, 1, -80},
    {0x461, 0x481, 2, -1},   {0x48b, 0x4bf, 2, -1},  {0x4d1, 0x52f, 2, -1},  {0x1e01, 0x1e95, 2, -1},
    {0x1ea1, 0x1eff, 2, -1}, {0x3c2, 0x3c2, 1, -31},
};

bool is_in(const Letters& row, std::uint32_t c) {
    return c >= row.first && c <= row.last && (c - row.first) % row.stride == 0;
}

std::uint32_t to_upper(std::uint32_t c) {
    for (const Letters& row : letters) {
        if (is_in(row, c)) return c + static_cast<std::uint32_t>(row.distance);
    }
    return c;
}

std::uint32_t to_lower(std::uint32_t c) {
    for (const Letters& row : letters) {
        const std::uint32_t small = c - static_cast<std::uint32_t>(row.distance);
        if (is_in(row, small)) return small;
    }
    return c;
}

bool is_cased(std::uint32_t c) {
    const Category k = category(c);
    return k == Category::Ll || k == Category::Lu || k == Category::Lt;
}

constexpr std::uint32_t no_code_point = 0x110000;

// A capital wherever is_capital(the code point before it, if any) says so; small letters else.
std::string map_case(std::string_view text, auto&& is_capital) {
    std::string out;
    std::uint32_t before = no_code_point;
    for (std::size_t at = 0; at < text.size();) {
        const std::uint32_t c = next_code_point(text, at);
        text::append_utf8(out, is_capital(before) ? to_upper(c) : to_lower(c));
        before = c;
    }
    return out;
}

}  // namespace

std::string upper(std::string_view text) {
    return map_case(text, [](std::uint32_t) { return true; });
}

std::string lower(std::string_view text) {
    return map_case(text, [](std::uint32_t) { return false; });
}

std::string capitalize(std::string_view text) {
    return map_case(text, [](std::uint32_t before) { return before == no_code_point; });
}

std::string title(std::string_view text) {
    return map_case(text, [](std::uint32_t before) { return before == no_code_point || !is_cased(before); });
}

std::string title_words(std::string_view text) {
    return map_case(text, [](std::uint32_t before) {
        constexpr std::u32string_view openers = U"-({[<";
        return before == no_code_point || is_space(before) || openers.find(before) != openers.npos;
    });
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

MarkedText replace(const MarkedText& text, std::string_view from, const MarkedText& to,
                   std::int64_t max_count) {
    const std::string& bytes = text.bytes;
    MarkedText out;
    std::size_t at = 0;
    for (std::int64_t done = 0; max_count < 0 || done < max_count; ++done) {
        std::size_t found = bytes.find(from, at), end = found + from.size();
        if (from.empty()) {  // before each code point, and at the end
            out.append(to);
            if (at >= bytes.size()) break;
            found = at;
            next_code_point(bytes, found);
            out.append(text.slice(at, found));
            at = found;
            continue;
        }
        if (found == bytes.npos) break;
        out.append(text.slice(at, found));
        out.append(to);
        at = end;
    }
    out.append(text.slice(at, bytes.size()));
    return out;
}

MarkedText escape_html(const MarkedText& text) {
    constexpr std::pair<char, std::string_view> entities[] = {
        {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&#34;"}, {'\'', "&#39;"}};
    MarkedText out;
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.bytes.size(); ++at) {
        const auto found = std::find_if(std::begin(entities), std::end(entities),
                                        [&](const auto& entity) { return entity.first == text.bytes[at]; });
        if (found == std::end(entities)) continue;
        out.append(text.slice(done, at));
        out.append(found->second, text.slice(at, at + 1).origin());
        done = at + 1;
    }
    out.append(text.slice(done, text.bytes.size()));
    return out;
}

}  // namespace edgekit::tmpl
