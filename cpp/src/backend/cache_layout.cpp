#include "backend/cache_layout.h"

#include <algorithm>
#include <cassert>

namespace edgekit {

namespace {

// Pieces are what threads share a head's keys by: long enough that joining them costs nothing, and of the
// same length whatever the number of threads, so that results are the same too.
constexpr uint32_t kPieceSlots = 512, kMaxPieces = 16;

LayerRing attention_ring(const LayerSpec& layer, const CacheOptions& options) {
    LayerRing ring;
    ring.local = layer.window && layer.window <= options.window;
    ring.sinks = ring.local ? 0 : options.sinks;
    ring.window = ring.local ? layer.window : options.window;
    ring.heads = layer.n_kv_heads;
    ring.block = kTileRows;
    ring.key_bytes = kv::k_tile_bytes(options.type, layer.head_dim);
    ring.value_bytes = kv::v_tile_bytes(options.type, layer.head_dim);
    ring.slots = round_up(ring.sinks + ring.window + options.chunk - 1, ring.block);
    ring.ring = ring.slots - ring.sinks;
    ring.piece = std::max(kPieceSlots, round_up((ring.slots + kMaxPieces - 1) / kMaxPieces, 64));
    return ring;
}

LayerRing convolution_ring(const LayerSpec& layer, const CacheOptions& options, uint32_t d_model) {
    LayerRing ring;
    ring.local = true;
    ring.window = layer.conv_kernel;
    ring.ring = ring.slots = layer.conv_kernel - 1 + options.chunk;
    ring.key_bytes = round_up64(uint64_t{d_model} * sizeof(float));
    return ring;
}

}  // namespace

CacheLayout::CacheLayout(const ModelSpec& spec, const CacheOptions& options) : options_(options) {
    assert(options.window > 0 && options.chunk > 0);
    for (const LayerSpec& layer : spec.layers) {
        rings_.push_back(layer.mixer == Mixer::attention ? attention_ring(layer, options)
                                                         : convolution_ring(layer, options, spec.d_model));
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

uint64_t CacheLayout::rewindable(uint64_t position, uint64_t written) const {
    uint64_t most = position;
    for (const LayerRing& ring : rings_) {
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

std::vector<CellRange> CacheLayout::used(uint64_t written) const {
    std::vector<CellRange> ranges;
    for (const LayerRing& ring : rings_) {
        const uint64_t blocks = (std::min<uint64_t>(ring.slots, written) + ring.block - 1) / ring.block;
        if (blocks == 0) continue;
        for (uint32_t head = 0; head < ring.heads; ++head) {
            ranges.push_back({ring.keys(head), ring.key_bytes * blocks});
            if (ring.value_bytes) ranges.push_back({ring.values(head), ring.value_bytes * blocks});
        }
    }
    return ranges;
}

}  // namespace edgekit
