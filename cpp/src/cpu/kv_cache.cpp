#include "cpu/kv_cache.h"

#include <algorithm>
#include <cassert>

namespace edgekit {

namespace {

// Pieces are what threads share a head's keys by: long enough that joining them costs nothing, and of the
// same length whatever the number of threads, so that results are the same too.
constexpr uint32_t kPieceSlots = 512, kMaxPieces = 16;

}  // namespace

KvCache::KvCache(const ModelSpec& spec, const CacheOptions& options, Arena& arena)
    : spec_(spec), options_(options) {
    assert(options.window > 0 && options.chunk > 0);
    uint64_t kv_bytes = 0;
    uint64_t conv_bytes = 0;
    for (const LayerSpec& layer : spec.layers) {
        LayerRing ring;
        if (layer.mixer == Mixer::attention) {
            ring.local = layer.window && layer.window <= options.window;
            ring.sinks = ring.local ? 0 : options.sinks;
            ring.window = ring.local ? layer.window : options.window;
            ring.ring = ring.window + options.chunk - 1;
            ring.slots = round_up(ring.sinks + ring.ring, kTileRows);
            ring.ring = ring.slots - ring.sinks;
            ring.piece = std::max(kPieceSlots, round_up((ring.slots + kMaxPieces - 1) / kMaxPieces, 64));
            ring.k_bytes = kv_k_bytes(options.type, layer.head_dim, ring.slots);
            ring.head_bytes = ring.k_bytes + kv_v_bytes(options.type, layer.head_dim, ring.slots);
            ring.offset = kv_bytes;
            kv_bytes += ring.head_bytes * layer.n_kv_heads;
        } else {
            ring.window = layer.conv_kernel;
            ring.ring = ring.slots = layer.conv_kernel - 1 + options.chunk;
            ring.offset = conv_bytes;
            conv_bytes += round_up64(uint64_t{spec.d_model} * 4) * ring.slots;
        }
        rings_.push_back(ring);
    }
    keys_values_ = arena.take<std::byte>(kv_bytes);
    conv_ = arena.take<std::byte>(conv_bytes);
}

void KvCache::set_sinks(uint32_t sinks) {
    options_.window = static_cast<uint32_t>(capacity() - sinks);
    options_.sinks = sinks;
    for (size_t layer = 0; layer < rings_.size(); ++layer) {
        LayerRing& ring = rings_[layer];
        if (ring.local || spec_.layers[layer].mixer != Mixer::attention) continue;
        ring.sinks = sinks;
        ring.window = options_.window;
        ring.ring = ring.slots - sinks;
    }
}

KvHead KvCache::head(size_t layer, uint32_t kv_head) const {
    const LayerRing& ring = rings_[layer];
    std::byte* keys = keys_values_ + ring.offset + ring.head_bytes * kv_head;
    return {keys, keys + ring.k_bytes, options_.type, spec_.layers[layer].head_dim};
}

float* KvCache::conv_input(size_t layer, uint64_t position) const {
    const LayerRing& ring = rings_[layer];
    return reinterpret_cast<float*>(conv_ + ring.offset +
                                    round_up64(uint64_t{spec_.d_model} * 4) * ring.slot(position));
}

uint64_t KvCache::rewindable(uint64_t position, uint64_t written) const {
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

}  // namespace edgekit
