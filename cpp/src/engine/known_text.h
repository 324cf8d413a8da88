#pragma once
// The text that a session's tokens spell, by its length and a hash: enough to recognise it at the beginning
// of a longer one when its first tokens are gone.

#include <cstdint>
#include <span>
#include <string_view>

#include "format/sha256.h"

namespace edgekit {

struct KnownText {
    uint64_t size = 0;  // bytes; 0: nothing is known
    Sha256::Digest digest{};

    bool begins(std::string_view text) const {
        if (size == 0 || text.size() < size) return false;
        Sha256 hash;
        hash.update(std::as_bytes(std::span(text.substr(0, size))));
        return hash.digest() == digest;
    }
};

// One that grows.
class GrowingText {
public:
    void append(std::string_view text) {
        hash_.update(std::as_bytes(std::span(text)));
        size_ += text.size();
    }
    KnownText known() const { return {size_, Sha256(hash_).digest()}; }

private:
    uint64_t size_ = 0;
    Sha256 hash_;
};

}  // namespace edgekit
