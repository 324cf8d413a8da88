#pragma once
// Byte-pair encoding of one word: the merge of the lowest rank first, the leftmost of equals.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace edgekit::text {

struct BpeModel {
    Vocabulary vocabulary;
    std::span<const uint64_t> merge_table;
    std::span<const int32_t> merge_result, byte_ids, ascii_ids;
    uint32_t merge_slots = 0;
    uint32_t flags = 0;  // ModelFlag
    int32_t unk_id = -1;
};

/// Encodes words; keeps its working memory from word to word. One thread at a time.
class BpeEncoder {
public:
    explicit BpeEncoder(const BpeModel& model) : model_(model) {}

    /// Appends the tokens of `word`, valid UTF-8.
    void encode(std::string_view word, std::vector<int32_t>& out);

private:
    // A word that took merging, remembered: texts repeat their words.
    struct Remembered {
        uint64_t hash = 0;  // of the word; 0: none here
        uint32_t text_start, text_size, ids_start, ids_count;
    };

    struct Character {
        uint32_t bytes = 0;  // its UTF-8, little endian; 0: none here
        int32_t id = -1;
    };

    int32_t character_id(std::string_view character);
    bool recall(std::string_view word, uint64_t hash, std::vector<int32_t>& out) const;
    void remember(std::string_view word, uint64_t hash);
    void split_into_symbols(std::string_view word);
    void merge_short();
    void merge_long();
    uint32_t rank(int32_t left, int32_t right) const;

    const BpeModel& model_;
    std::vector<int32_t> symbols_;
    std::vector<uint32_t> ranks_, next_, previous_;
    std::array<Character, 512> characters_;  // beyond ASCII, as met, by hash
    std::vector<Remembered> remembered_;     // by hash
    std::string remembered_text_;
    std::vector<int32_t> remembered_ids_;
    std::vector<uint64_t> heap_;  // rank << 32 | position of the left symbol
};

}  // namespace edgekit::text
