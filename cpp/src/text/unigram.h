#pragma once
// Unigram: of all ways to cut a word into tokens, the one with the highest sum of scores (Viterbi).

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/trie.h"
#include "text/vocabulary.h"

namespace edgekit::text {

struct UnigramModel {
    Vocabulary vocabulary;
    Trie trie;
    std::span<const double> scores;
    std::span<const int32_t> byte_ids;
    double unk_score = 0;
    uint32_t flags = 0;  // ModelFlag
    int32_t unk_id = -1;
};

/// Encodes words; keeps its working memory from word to word. One thread at a time.
class UnigramEncoder {
public:
    explicit UnigramEncoder(const UnigramModel& model) : model_(model) {}

    /// Appends the tokens of `word`, valid UTF-8. Neighbouring unknown characters are one token, or their
    /// bytes' tokens.
    void encode(std::string_view word, std::vector<int32_t>& out);

private:
    struct Node {
        double score;
        int64_t start;  // of the best token that ends here; -1: none does
        int32_t id;
    };

    const UnigramModel& model_;
    std::vector<Node> best_;  // by the byte where a token ends
    std::vector<std::pair<std::string_view, int32_t>> pieces_;
};

}  // namespace edgekit::text
