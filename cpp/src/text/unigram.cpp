#include "text/unigram.h"

#include <algorithm>

#include "text/unicode.h"

namespace edgekit::text {

void UnigramEncoder::encode(std::string_view word, std::vector<int32_t>& out) {
    best_.assign(word.size() + 1, Node{0, -1, 0});
    for (size_t at = 0; at < word.size();) {
        const double here = best_[at].score;
        const unsigned length = sequence_length(static_cast<uint8_t>(word[at]));
        const auto offer = [&](size_t size, double score, int32_t id) {
            Node& node = best_[at + size];
            if (node.start < 0 || here + score > node.score)
                node = {here + score, static_cast<int64_t>(at), id};
        };
        bool one_character = false;
        model_.trie.prefixes(word.substr(at), [&](size_t size, int32_t id) {
            offer(size, model_.scores[id], id);
            one_character |= size == length;
        });
        if (!one_character) offer(length, model_.unk_score, model_.unk_id);
        at += length;
    }

    pieces_.clear();
    for (size_t end = word.size(); end > 0;) {
        const Node& node = best_[end];
        const auto start = static_cast<size_t>(node.start);
        if (node.id == model_.unk_id && !pieces_.empty() && pieces_.back().second == model_.unk_id) {
            pieces_.back().first = word.substr(start, end - start + pieces_.back().first.size());
        } else {
            pieces_.push_back({word.substr(start, end - start), node.id});
        }
        end = start;
    }
    std::reverse(pieces_.begin(), pieces_.end());

    for (const auto& [text, id] : pieces_) {
        const auto byte_id = [&](char c) { return model_.byte_ids[static_cast<uint8_t>(c)]; };
        if (id != model_.unk_id) {
            out.push_back(id);
        } else if (const int32_t whole_id = model_.vocabulary.find(text); whole_id >= 0) {
            out.push_back(whole_id);
        } else if ((model_.flags & byte_fallback) &&
                   std::all_of(text.begin(), text.end(), [&](char c) { return byte_id(c) >= 0; })) {
            for (char c : text) out.push_back(byte_id(c));
        } else if (model_.unk_id >= 0) {
            out.push_back(model_.unk_id);
        }
    }
}

}  // namespace edgekit::text
