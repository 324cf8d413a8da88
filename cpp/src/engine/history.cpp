#include "engine/history.h"

#include <algorithm>

namespace edgekit {

namespace {

Sha256::Digest extend(const Sha256::Digest& digest, int32_t id) {
    const auto word = static_cast<uint32_t>(id);
    const std::byte bytes[] = {std::byte(word), std::byte(word >> 8), std::byte(word >> 16),
                               std::byte(word >> 24)};
    Sha256 hash;
    hash.update(digest);
    hash.update(bytes);
    return hash.digest();
}

}  // namespace

void TokenHistory::append(int32_t id) {
    if (size_ - first_ == ids_.size()) digest_ = extend(digest_, at(first_++));
    ids_[size_++ % ids_.size()] = id;
}

void TokenHistory::truncate(uint64_t size) {
    size_ = size;
    if (size == 0) {
        first_ = 0;
        digest_ = {};
    }
}

uint64_t TokenHistory::shared_prefix(std::span<const int32_t> ids) const {
    if (ids.size() < first_) return 0;
    Sha256::Digest digest{};
    for (const int32_t id : ids.first(first_)) digest = extend(digest, id);
    if (digest != digest_) return 0;
    uint64_t shared = first_;
    while (shared < std::min<uint64_t>(ids.size(), size_) && ids[shared] == at(shared)) ++shared;
    return shared;
}

void TokenHistory::restore(uint64_t first, const Sha256::Digest& digest, std::span<const int32_t> ids) {
    first_ = size_ = first;
    digest_ = digest;
    for (const int32_t id : ids) ids_[size_++ % ids_.size()] = id;
}

}  // namespace edgekit
