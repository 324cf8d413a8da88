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
    std::span<const uint8_t> merge_left;  // of `left_bytes` each, little endian
    Offsets merge_start;
    std::span<const MergeRun> merge_runs;
    std::span<const int32_t> byte_ids, ascii_ids;
    uint32_t left_bytes = 1;
    uint32_t flags = 0;  // ModelFlag
    int32_t unk_id = -1;

    uint32_t left(size_t place) const {
        const uint8_t* p = &merge_left[place * left_bytes];
        return left_bytes == 1 ? p[0] : p[0] | static_cast<uint32_t>(p[1]) << 8;
    }

    uint32_t rank(uint32_t place) const {
        const MergeRun* run = merge_runs.data();
        for (size_t count = merge_runs.size(), half; (half = count / 2) > 0; count -= half) {
            if (run[half].place <= place) run += half;
        }
        return run->rank + (place - run->place);
    }
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

    // What two neighbours become, and when.
    struct Merge {
        uint32_t rank;
        int32_t made;
    };

    // A symbol of a long word among its neighbours, and what it and the next one merge to.
    struct Place {
        int32_t symbol;
        uint32_t start, next, previous;
        Merge merge;
    };

    // A pair that was looked up, remembered: texts repeat their pairs even where their words are new.
    struct Pair {
        uint64_t ids = UINT64_MAX;
        Merge merge;
    };

    int32_t character_id(std::string_view character);
    bool recall(std::string_view word, uint64_t hash, std::vector<int32_t>& out) const;
    void remember(std::string_view word, uint64_t hash);
    void split_into_symbols(std::string_view word);
    void respell();
    void merge_short();
    void merge_long();
    Merge merge(int32_t left, int32_t right, uint32_t begin, uint32_t middle, uint32_t end);
    Merge look_up(std::string_view both, uint32_t left) const;

    const BpeModel& model_;
    std::vector<int32_t> symbols_;
    std::string_view spelt_;        // the texts of the symbols, one after the other
    std::vector<uint32_t> starts_;  // of each in `spelt_`, and its end
    std::string respelt_;           // where `spelt_` is not the word
    std::vector<Place> places_;
    std::vector<Pair> pairs_;  // by hash, of which so many bits are too many
    uint32_t pair_shift_ = 0;
    std::array<Character, 512> characters_;  // beyond ASCII, as met, by hash
    std::vector<Remembered> remembered_;     // by hash
    std::string remembered_text_;
    std::vector<int32_t> remembered_ids_;
    std::vector<uint64_t> heap_;  // rank << 32 | position of the left symbol
};

}  // namespace edgekit::text
