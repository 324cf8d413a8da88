#include "backend/cache_layout.h"

#include <algorithm>
#include <cassert>

#include "backend/spec.h"

namespace edgekit {

CacheLayout::CacheLayout(const ModelSpec& spec, const CacheOptions& options) : options_(options) {
    assert(options.window > 0 && options.chunk > 0);
    for (const LayerSpec& layer : spec.layers) {
        if (layer.kv_layer >= 0) {
            rings_.push_back(rings_[layer.kv_layer]);
            rings_.back().shared = true;
            continue;
        }
        rings_.push_back(layer.mixer->ring(options));
        rings_.back().offset = bytes_;
        bytes_ += rings_.back().bytes();
    }
}

void CacheLayout::set_sinks(uint32_t sinks) {
    options_.window = static_cast<uint32_t>(capacity() - sinks);
    options_.sinks = sinks;
    for (LayerRing& ring : rings_) {
        if (ring.local) continue;
        ring.sinks = sinks;
        ring.window = options_.window;
        ring.ring = ring.slots - sinks;
    }
}

uint32_t CacheLayout::most_slots() const {
    uint32_t most = 0;
    for (const LayerRing& ring : rings_) most = std::max(most, ring.slots);
    return most;
}

uint64_t CacheLayout::rewindable(uint64_t position, uint64_t written) const {
    uint64_t most = position;
    for (const LayerRing& ring : rings_) {
        if (ring.state_bytes) continue;
        // Position p is still there when written - p <= ring; after a rewind to r, the token at r sees back
        // to r - window + 1.
        const uint64_t kept = ring.sinks + uint64_t{ring.ring};
        if (written <= kept) continue;
        const uint64_t lowest = written - ring.ring;       // oldest position in the ring
        const uint64_t target = lowest + ring.window - 1;  // first token that sees nothing older
        most = std::min(most, position > target ? position - target : 0);
    }
    return most;
}

bool CacheLayout::has_states() const {
    return std::any_of(rings_.begin(), rings_.end(),
                       [](const LayerRing& ring) { return ring.state_bytes > 0; });
}

std::vector<CellRange> CacheLayout::used(uint64_t written, uint32_t states) const {
    std::vector<CellRange> ranges;
    for (const LayerRing& ring : rings_) {
        const uint64_t blocks = (std::min<uint64_t>(ring.slots, written) + ring.block - 1) / ring.block;
        if (blocks == 0 || ring.shared) continue;
        for (uint32_t head = 0; head < ring.heads; ++head) {
            ranges.push_back({ring.keys(head), ring.key_bytes * blocks});
            if (ring.value_bytes) ranges.push_back({ring.values(head), ring.value_bytes * blocks});
        }
        for (uint32_t state = 0; ring.state_bytes && state < kStates; ++state)
            if (states >> state & 1) ranges.push_back({ring.state(state), ring.state_bytes});
    }
    return ranges;
}

}  // namespace edgekit
