#pragma once
// The tokens of a compiled tokenizer: text -> id by hash, id -> text and output by offset. All of it lies in
// the blob.

#include <cstdint>
#include <cstring>
#include <span>
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

struct Vocabulary {
    std::span<const VocabEntry> table;
    std::span<const uint32_t> text_start, output_start;
    std::span<const uint8_t> flags;
    const char *text_bytes = nullptr, *output_bytes = nullptr;
    uint32_t slots = 0;

    std::string_view text(int32_t id) const {
        return {text_bytes + text_start[id], text_start[id + 1] - text_start[id]};
    }
    std::string_view output(int32_t id) const {
        return {output_bytes + output_start[id], output_start[id + 1] - output_start[id]};
    }

    /// The token whose text this is, or -1.
    int32_t find(std::string_view wanted) const { return find(wanted, hash_text(wanted)); }
    int32_t find(std::string_view wanted, uint64_t hash) const {
        const auto tag = static_cast<uint32_t>(hash);
        for (const VocabEntry* e = &table[home_slot(hash, slots)]; e->id >= 0; ++e) {
            if (e->tag == tag && text(e->id) == wanted) return e->id;
        }
        return -1;
    }
};

}  // namespace edgekit::text
