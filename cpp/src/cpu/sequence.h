#pragma once
// A text in the processor's memory: its cells, and the rotations that depend on how much of it there is room
// for.

#include <vector>

#include "backend/backend.h"
#include "cpu/arena.h"

namespace edgekit {

class Sequence final : public Context {
public:
    Sequence(const ModelSpec& spec, const CacheLayout& layout);

    void save_cells(CellRange range, const Put& put) const override;
    void load_cells(CellRange range, const std::byte* bytes) override;
    void copy_cells(const Context& from) override;

    // A position's cell in a layer of one head, a recurrent layer's state, and the keys and values of one
    // head.
    float* cell(const LayerRing& ring, uint64_t position) const {
        return reinterpret_cast<float*>(cells_.data() + ring.keys(0) + ring.key_bytes * ring.slot(position));
    }
    float* state(const LayerRing& ring, uint32_t index) const {
        return reinterpret_cast<float*>(cells_.data() + ring.state(index));
    }
    KvHead head(const LayerRing& ring, uint32_t kv_head, KvType type, uint32_t head_dim) const {
        std::byte* first = cells_.data() + ring.keys(kv_head);
        if (!ring.value_bytes) return {nullptr, first, type, head_dim};
        return {first, cells_.data() + ring.values(kv_head), type, head_dim};
    }

    // One of the model's rotary embeddings.
    struct Rope {
        const std::vector<double>* inv_freq;
        float factor;
        std::vector<float> sink_cos, sink_sin;  // [dim / 2] at position capacity - 1

        void angles(uint64_t position, float* cos, float* sin) const;
    };
    const Rope& rope(size_t index) const { return ropes_[index]; }

private:
    uint64_t size_;
    AlignedMemory cells_;
    std::vector<Rope> ropes_;
};

}  // namespace edgekit
