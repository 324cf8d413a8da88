#include "engine/history.h"

#include <algorithm>

namespace edgekit {

uint64_t TokenHistory::extend(uint64_t hash, int32_t id) {
    uint64_t z = (hash ^ static_cast<uint32_t>(id)) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 32) * 0xd6e8feb86659fd93u;
    return z ^ z >> 32;
}

uint64_t TokenHistory::hash_of(uint64_t size) const {
    return size ? hashes_[(size - 1) % hashes_.size()] : 0x9d39247e33776d41u;
}

void TokenHistory::append(int32_t id) {
    const uint64_t hash = extend(hash_of(size_), id);
    ids_[size_ % ids_.size()] = id;
    hashes_[size_ % hashes_.size()] = hash;
    ++size_;
}

void TokenHistory::truncate(uint64_t size) { size_ = size; }

uint64_t TokenHistory::shared_prefix(std::span<const int32_t> ids) const {
    const uint64_t reach = std::min<uint64_t>(ids.size(), size_);
    uint64_t shared = 0;
    uint64_t hash = hash_of(0);
    for (uint64_t length = 1; length <= reach; ++length) {
        hash = extend(hash, ids[length - 1]);
        const bool known = size_ - length < hashes_.size();
        if (known && hash_of(length) != hash) break;
        if (known) shared = length;
    }
    return shared;
}

void TokenHistory::restore(uint64_t size, std::span<const int32_t> ids, std::span<const uint64_t> hashes) {
    std::copy(ids.begin(), ids.end(), ids_.begin());
    std::copy(hashes.begin(), hashes.end(), hashes_.begin());
    size_ = size;
}

}  // namespace edgekit
