#pragma once
// The last tokens of a session, and a hash of everything before each: enough to know how much of a new prompt
// the cache already holds, however long the text has become, in constant memory.

#include <cstdint>
#include <span>
#include <vector>

namespace edgekit {

class TokenHistory {
public:
    explicit TokenHistory(uint64_t capacity) : ids_(capacity), hashes_(capacity) {}
    static uint64_t bytes(uint64_t capacity) { return capacity * (sizeof(int32_t) + sizeof(uint64_t)); }

    uint64_t size() const { return size_; }
    uint64_t capacity() const { return ids_.size(); }
    void append(int32_t id);
    // Forgets all but the first `size` tokens, which must not lie further back than `capacity`.
    void truncate(uint64_t size);
    void clear() { truncate(0); }
    // The token at `position`, one of the last `capacity`.
    int32_t at(uint64_t position) const { return ids_[position % ids_.size()]; }
    // How many tokens `ids` and the history have in common at their beginning, as far as the history reaches
    // back: 0 when it does not.
    uint64_t shared_prefix(std::span<const int32_t> ids) const;

    // For saving: the state in plain words.
    const std::vector<int32_t>& ids() const { return ids_; }
    const std::vector<uint64_t>& hashes() const { return hashes_; }
    void restore(uint64_t size, std::span<const int32_t> ids, std::span<const uint64_t> hashes);

private:
    static uint64_t extend(uint64_t hash, int32_t id);
    uint64_t hash_of(uint64_t size) const;

    uint64_t size_ = 0;
    std::vector<int32_t> ids_;
    std::vector<uint64_t> hashes_;  // hashes_[p % capacity]: of tokens 0 … p
};

}  // namespace edgekit
