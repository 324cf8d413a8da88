#include "text/unicode.h"

#include <cstring>

namespace edgekit::text {

void append_utf8(std::string& out, uint32_t c) {
    const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (c < 0x80) {
        put(c);
    } else if (c < 0x800) {
        put(0xC0 | c >> 6);
        put(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        put(0xE0 | c >> 12);
        put(0x80 | (c >> 6 & 0x3F));
        put(0x80 | (c & 0x3F));
    } else {
        put(0xF0 | c >> 18);
        put(0x80 | (c >> 12 & 0x3F));
        put(0x80 | (c >> 6 & 0x3F));
        put(0x80 | (c & 0x3F));
    }
}

Utf8 scan_utf8(std::string_view text, unsigned& length) {
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
    const uint8_t lead = byte(0);
    length = 1;
    if (lead < 0x80) return Utf8::complete;
    if (lead < 0xC2 || lead > 0xF4) return Utf8::invalid;
    const unsigned want = sequence_length(lead);
    // The second byte's range excludes overlong forms, surrogates and what lies past U+10FFFF.
    const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (; length < want; ++length) {
        if (length == text.size()) return Utf8::truncated;
        const uint8_t next = byte(length);
        if (length == 1 ? next < low || next > high : (next & 0xC0) != 0x80) return Utf8::invalid;
    }
    return Utf8::complete;
}

size_t find_invalid_utf8(std::string_view text) {
    size_t i = 0;
    while (i < text.size()) {
        uint64_t word;
        while (text.size() - i >= sizeof word) {
            std::memcpy(&word, text.data() + i, sizeof word);
            if (word & 0x8080808080808080u) break;
            i += sizeof word;
        }
        if (i == text.size()) break;
        unsigned length;
        if (scan_utf8(text.substr(i, 4), length) != Utf8::complete) return i;
        i += length;
    }
    return std::string_view::npos;
}

}  // namespace edgekit::text
