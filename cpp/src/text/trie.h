#pragma once
// Longest and common prefixes over the nodes of a compiled tokenizer.

#include <cstdint>
#include <span>
#include <string_view>

#include "text/tokenizer_layout.h"

namespace edgekit::text {

class Trie {
public:
    Trie() = default;
    explicit Trie(std::span<const TrieNode> nodes) : nodes_(nodes) {}

    bool empty() const { return nodes_.empty(); }
    std::span<const TrieNode> nodes() const { return nodes_; }

    /// Calls found(length, value) for every entry that is a prefix of `text`, shortest first.
    template <class Found>
    void prefixes(std::string_view text, Found&& found) const {
        uint32_t node = 0;
        for (size_t i = 0; i < text.size() && step(node, static_cast<uint8_t>(text[i])); ++i) {
            if (nodes_[node].value >= 0) found(i + 1, nodes_[node].value);
        }
    }

    bool starts(uint8_t byte) const {
        uint32_t node = 0;
        return !nodes_.empty() && step(node, byte);
    }

    /// True when every child lies inside and after its parent, and every value is below `value_count`.
    bool valid(size_t value_count) const {
        for (size_t i = 0; i < nodes_.size(); ++i) {
            const TrieNode& n = nodes_[i];
            if (n.value >= 0 && static_cast<size_t>(n.value) >= value_count) return false;
            if (n.child_count == 0) continue;
            if (n.first_child <= i || n.first_child >= nodes_.size() ||
                n.child_count > nodes_.size() - n.first_child) {
                return false;
            }
        }
        return true;
    }

private:
    bool step(uint32_t& node, uint8_t label) const {
        const TrieNode& parent = nodes_[node];
        uint32_t low = parent.first_child, high = parent.first_child + parent.child_count;
        while (low < high) {
            const uint32_t middle = (low + high) / 2;
            if (nodes_[middle].label < label) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (low == parent.first_child + parent.child_count || nodes_[low].label != label) return false;
        node = low;
        return true;
    }

    std::span<const TrieNode> nodes_;
};

}  // namespace edgekit::text
