#pragma once
// The last tokens of a session and a hash of all before them: enough to know how much of a new prompt the
// cache already holds, however long the text has become, in constant memory.

#include <cstdint>
#include <span>
#include <vector>

#include "format/sha256.h"

namespace edgekit {

class TokenHistory {
public:
    explicit TokenHistory(uint64_t capacity) : ids_(capacity) {}
    static uint64_t bytes(uint64_t capacity) { return capacity * sizeof(int32_t); }

    uint64_t size() const { return size_; }
    // The oldest token that is still known.
    uint64_t first() const { return first_; }
    void append(int32_t id);
    // Forgets all but the first `size` tokens; at least `first()`, or 0.
    void truncate(uint64_t size);
    // The token at `position`, one of [first(), size()).
    int32_t at(uint64_t position) const { return ids_[position % ids_.size()]; }
    // How many tokens `ids` and the history have in common at their beginning: 0 when they part before
    // `first()`.
    uint64_t shared_prefix(std::span<const int32_t> ids) const;

    // For saving.
    uint64_t capacity() const { return ids_.size(); }
    const Sha256::Digest& digest() const { return digest_; }
    // `ids`: the tokens from `first` on, at most `capacity()`; `digest`: of those before.
    void restore(uint64_t first, const Sha256::Digest& digest, std::span<const int32_t> ids);

private:
    uint64_t first_ = 0, size_ = 0;
    Sha256::Digest digest_{};  // of tokens [0, first_), each hashed behind the digest of those before it
    std::vector<int32_t> ids_;
};

}  // namespace edgekit
