#pragma once
// The tokens of a compiled tokenizer: text -> id by hash, id -> output by offset. All of it lies in the blob.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "text/tokenizer_layout.h"

namespace edgekit::text {

constexpr uint64_t hash_seed = 0x9E3779B97F4A7C15u;
constexpr uint64_t hash_factor = 0xD6E8FEB86659FD93u;

/// `home` of a hash in a table of `slots`.
inline uint32_t home_slot(uint64_t hash, uint32_t slots) {
    return static_cast<uint32_t>((hash >> 32) * slots >> 32);
}

/// Zero-extended little endian bytes; `size` <= 8.
inline uint64_t load_word(const char* p, size_t size) {
    const auto byte = [p](size_t i) { return static_cast<uint64_t>(static_cast<uint8_t>(p[i])); };
    if (size >= 4) {
        uint32_t low, high;
        std::memcpy(&low, p, 4);
        std::memcpy(&high, p + size - 4, 4);
        return low | static_cast<uint64_t>(high) << (8 * (size - 4));
    }
    if (size == 0) return 0;
    return byte(0) | byte(size / 2) << (8 * (size / 2)) | byte(size - 1) << (8 * (size - 1));
}

inline uint64_t hash_text(std::string_view text) {
    uint64_t h = hash_seed * (text.size() + 1);
    const char* p = text.data();
    size_t left = text.size();
    while (left > 8) {
        uint64_t word;
        std::memcpy(&word, p, 8);
        h = (h ^ word) * hash_factor;
        h ^= h >> 29;
        p += 8;
        left -= 8;
    }
    h = (h ^ load_word(p, left)) * hash_factor;
    return h ^ h >> 29;
}

/// Numbers as `offsets_block` says.
struct Offsets {
    std::span<const uint32_t> base;
    std::span<const uint16_t> offset;

    uint32_t operator[](size_t i) const { return base[i / offsets_block] + offset[i]; }

    /// Whether they are `count` + 1 that rise from 0 to `last` or less.
    bool valid(size_t count, size_t last) const {
        if (base.size() != count / offsets_block + 1 || offset.size() != count + 1) return false;
        // No sum overflows before it has been compared with one that is too large.
        if (std::any_of(base.begin(), base.end(), [&](uint32_t b) { return b > last; })) return false;
        bool rises = (*this)[0] == 0;
        for (size_t i = 0; i < count; ++i) rises &= (*this)[i] <= (*this)[i + 1];
        return rises && (*this)[count] <= last;
    }
};

struct Vocabulary {
    std::span<const uint32_t> table;
    std::span<const Respelling> respellings;
    std::span<const uint8_t> flags;
    Offsets output_start;
    const char *output_bytes = nullptr, *strings = nullptr;
    std::string_view space_mark;
    uint32_t slots = 0;

    std::string_view output(int32_t id) const {
        const uint32_t start = output_start[id];
        return {output_bytes + start, output_start[id + 1] - start};
    }

    /// A token as the model matches it.
    std::string text(int32_t id) const {
        if (flags[id] & respelt) return std::string(respelling(id));
        std::string_view rest = output(id);
        if (space_mark.empty()) return std::string(rest);
        std::string spelt;
        for (size_t space; (space = rest.find(' ')) != rest.npos; rest.remove_prefix(space + 1)) {
            spelt.append(rest.substr(0, space)).append(space_mark);
        }
        return spelt.append(rest);
    }

    /// text(id) == wanted
    bool spells(int32_t id, std::string_view wanted) const {
        if (flags[id] & respelt) return respelling(id) == wanted;
        if (space_mark.empty()) return output(id) == wanted;
        for (const char c : output(id)) {
            if (c == ' ') {
                if (!wanted.starts_with(space_mark)) return false;
                wanted.remove_prefix(space_mark.size());
            } else {
                if (wanted.empty() || wanted.front() != c) return false;
                wanted.remove_prefix(1);
            }
        }
        return wanted.empty();
    }

    /// The token whose text this is, or -1.
    int32_t find(std::string_view wanted) const { return find(wanted, hash_text(wanted)); }
    int32_t find(std::string_view wanted, uint64_t hash) const {
        const auto tag = static_cast<uint32_t>(hash) << vocab_id_bits;
        for (const uint32_t* e = &table[home_slot(hash, slots)]; *e != vocab_empty; ++e) {
            const uint32_t id = *e ^ tag;
            if (id >> vocab_id_bits == 0 && spells(static_cast<int32_t>(id), wanted)) {
                return static_cast<int32_t>(id);
            }
        }
        return -1;
    }

private:
    std::string_view respelling(int32_t id) const {
        const auto found =
            std::lower_bound(respellings.begin(), respellings.end(), id,
                             [](const Respelling& r, int32_t wanted) { return r.id < wanted; });
        if (found == respellings.end() || found->id != id) return {};
        return {strings + found->text.offset, found->text.size};
    }
};

}  // namespace edgekit::text
