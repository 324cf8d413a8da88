#include "cpu/sequence.h"

#include <cassert>
#include <cmath>
#include <cstring>

namespace edgekit {

Sequence::Sequence(const ModelSpec& spec, const CacheLayout& layout) : size_(layout.bytes()), cells_(size_) {
    const uint64_t capacity = layout.capacity();
    for (const RopeSpec& rope : spec.ropes) {
        const bool longer = !rope.long_inv_freq.empty() && capacity > rope.original_context;
        const size_t half = rope.dim / 2;
        ropes_.push_back({longer ? &rope.long_inv_freq : &rope.inv_freq, static_cast<float>(rope.factor),
                          std::vector<float>(half), std::vector<float>(half)});
        Rope& own = ropes_.back();
        own.angles(capacity - 1, own.sink_cos.data(), own.sink_sin.data());
    }
}

void Sequence::Rope::angles(uint64_t position, float* cos, float* sin) const {
    for (size_t i = 0; i < inv_freq->size(); ++i) {
        const double angle = static_cast<double>(position) * (*inv_freq)[i];
        cos[i] = static_cast<float>(std::cos(angle)) * factor;
        sin[i] = static_cast<float>(std::sin(angle)) * factor;
    }
}

void Sequence::save_cells(CellRange range, const Put& put) const {
    put({cells_.data() + range.offset, static_cast<size_t>(range.size)});
}

void Sequence::load_cells(CellRange range, const std::byte* bytes) {
    std::memcpy(cells_.data() + range.offset, bytes, range.size);
}

void Sequence::copy_cells(const Context& from) {
    const auto& other = static_cast<const Sequence&>(from);
    assert(other.size_ == size_);
    std::memcpy(cells_.data(), other.cells_.data(), size_);
}

}  // namespace edgekit
