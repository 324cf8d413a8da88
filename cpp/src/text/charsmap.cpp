#include "text/charsmap.h"

#include <cstring>

#include "text/tokenizer_layout.h"
#include "text/unicode.h"

namespace edgekit::text {

namespace {

class Charsmap {
public:
    explicit Charsmap(std::string_view map) {
        uint32_t array_bytes = 0;
        if (map.size() < sizeof array_bytes) return;
        std::memcpy(&array_bytes, map.data(), sizeof array_bytes);
        map.remove_prefix(sizeof array_bytes);
        if (array_bytes > map.size()) return;
        units_ = map.substr(0, array_bytes);
        replacements_ = map.substr(array_bytes);
    }

    /// The replacement of the shortest prefix of `text` that has one.
    bool find(std::string_view text, std::string_view& replacement) const {
        size_t node = offset(unit(0));
        for (char c : text) {
            const auto byte = static_cast<uint8_t>(c);
            node ^= byte;
            const uint32_t u = unit(node);
            if (byte == 0 || (u & 0x800000FFu) != byte) return false;
            node ^= offset(u);
            if (u >> 8 & 1) return replacement_at(unit(node) & 0x7FFFFFFFu, replacement);
        }
        return false;
    }

private:
    static size_t offset(uint32_t u) { return static_cast<size_t>(u >> 10) << ((u & 0x200u) >> 6); }

    uint32_t unit(size_t i) const {
        uint32_t u = 0;
        if (i < units_.size() / sizeof u) std::memcpy(&u, units_.data() + i * sizeof u, sizeof u);
        return u;
    }

    bool replacement_at(size_t start, std::string_view& replacement) const {
        if (start >= replacements_.size()) return false;
        replacement = replacements_.substr(start, replacements_.find('\0', start) - start);
        return replacement.size() <= max_inserted_bytes && find_invalid_utf8(replacement) == replacement.npos;
    }

    std::string_view units_, replacements_;
};

/// True for what joins the grapheme cluster before it (of UAX 29, the part that clusters below 6 bytes need).
bool extends_cluster(uint32_t c) {
    const Category k = category(c);
    return k == Category::Mn || k == Category::Me || k == Category::Mc || c == 0x200C || c == 0x200D ||
           (c >= 0xFF9E && c <= 0xFF9F) || (c >= 0x1F3FB && c <= 0x1F3FF) || (c >= 0xE0020 && c <= 0xE007F);
}

bool is_control(uint32_t c) {
    const Category k = category(c);
    return k == Category::Cc || k == Category::Zl || k == Category::Zp ||
           (k == Category::Cf && c != 0x200C && c != 0x200D && !(c >= 0xE0020 && c <= 0xE007F));
}

}  // namespace

std::string apply_charsmap(std::string_view map, std::string_view text) {
    const Charsmap charsmap(map);
    std::string out;
    out.reserve(text.size());
    const char *p = text.data(), *end = p + text.size();
    while (p < end) {
        const CodePoint first = decode_utf8(p);
        const char* stop = p + first.length;
        if (first.value == '\r' && stop < end && *stop == '\n') {
            ++stop;
        } else if (!is_control(first.value)) {
            for (CodePoint next; stop < end; stop += next.length) {
                next = decode_utf8(stop);
                if (!extends_cluster(next.value)) break;
            }
        }
        const std::string_view cluster(p, static_cast<size_t>(stop - p));
        std::string_view replacement;
        if (cluster.size() < 6 && charsmap.find(cluster, replacement)) {
            out.append(replacement);
        } else {
            for (const char* c = p; c < stop; c += sequence_length(static_cast<uint8_t>(*c))) {
                const std::string_view character(c, sequence_length(static_cast<uint8_t>(*c)));
                out.append(charsmap.find(character, replacement) ? replacement : character);
            }
        }
        p = stop;
    }
    return out;
}

}  // namespace edgekit::text
