#pragma once
// A text's cells in the processor's memory.

#include <cassert>
#include <cstring>

#include "backend/backend.h"
#include "cpu/arena.h"
#include "cpu/decoder.h"

namespace edgekit {

class Sequence final : public Context {
public:
    Sequence(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout, uint32_t n_threads)
        : state(spec, weights, layout, n_threads), size_(layout.bytes()), cells_(size_) {}

    DecoderState state;

    void save_cells(CellRange range, const Put& put) const override {
        put({cells_.data() + range.offset, static_cast<size_t>(range.size)});
    }
    void load_cells(CellRange range, const std::byte* bytes) override {
        std::memcpy(cells_.data() + range.offset, bytes, range.size);
    }
    void copy_cells(const Context& from) override {
        const auto& other = static_cast<const Sequence&>(from);
        assert(other.size_ == size_);
        std::memcpy(cells_.data(), other.cells_.data(), size_);
    }

    // The keys and values of one head.
    KvHead head(const CacheLayout& layout, uint32_t layer, uint32_t kv_head, uint32_t head_dim) const {
        const LayerRing& ring = layout.ring(layer);
        return {cells_.data() + ring.keys(kv_head), cells_.data() + ring.values(kv_head),
                layout.options().type, head_dim};
    }
    // What a layer of one head keeps of a position.
    float* cell(const LayerRing& ring, uint64_t position) const {
        return reinterpret_cast<float*>(cells_.data() + ring.keys(0) + ring.key_bytes * ring.slot(position));
    }

private:
    uint64_t size_;
    AlignedMemory cells_;
};

}  // namespace edgekit
