#pragma once
// Where the cells of a text lie, in constant memory; not the memory itself, which is a backend's Context.
// Each attention layer keeps the keys and values of the first `sinks` positions for ever and the rest in a
// ring:
//
//   position p lies in slot   p                          while p < sinks
//                             sinks + (p - sinks) % ring  after that
//
// A ring is larger than its window by one prefill chunk, so that a chunk can be written before its first
// token attends. Layers that were trained with a sliding window no larger than the session's keep that
// window, and no sinks.
//
// Keys carry the rotation of their own absolute position and are never rotated again. A query that has lost
// sight of position `sinks` sees the sinks as from position sinks + window - 1, so that no distance exceeds
// what fits the session (StreamingLLM, arXiv:2309.17453, which re-rotates keys to the same effect).
//
// A convolution layer keeps its last inputs in a ring of the same kind.
//
// A recurrent layer keeps kStates states beside the last inputs: which of them are at which position, and so
// where a text can return to, the session decides (engine/state_slots.h) and tells in each Part.

#include <cstdint>
#include <vector>

#include "quant/kv.h"

namespace edgekit {

struct ModelSpec;

// Of a recurrent layer: its states, and the inputs in its ring.
inline constexpr uint32_t kStates = 4, kStateInputs = 32;

struct CacheOptions {
    uint32_t window = 0;  // recent positions
    uint32_t sinks = 0;   // first positions
    uint32_t chunk = 0;   // most tokens in one step
    KvType type = KvType::f16;

    uint64_t capacity() const { return uint64_t{window} + sinks; }
};

// Bytes of the cache.
struct CellRange {
    uint64_t offset = 0, size = 0;
};

// The cells of one layer: for each head its keys, then its values, both in blocks of slots.
struct LayerRing {
    bool shared = false;  // the cells are an earlier layer's
    bool local = false;   // the layer's own window: no sinks
    uint32_t sinks = 0;
    uint32_t window = 0;
    uint32_t ring = 0;   // slots after the sinks
    uint32_t slots = 0;  // in all, a multiple of block
    uint32_t heads = 1;
    uint32_t block = 1;        // slots
    uint64_t key_bytes = 0;    // of a block
    uint64_t value_bytes = 0;  // of a block
    uint64_t state_bytes = 0;  // of a state; 0: not a recurrent layer
    uint64_t offset = 0;       // of the first head, from the cache's beginning

    uint32_t slot(uint64_t position) const {
        return position < sinks ? static_cast<uint32_t>(position)
                                : sinks + static_cast<uint32_t>((position - sinks) % ring);
    }
    // The oldest position after the sinks that a token at `position` attends to.
    uint64_t oldest(uint64_t position) const {
        const uint64_t first = position + 1 > window ? position + 1 - window : 0;
        return first > sinks ? first : sinks;
    }
    uint64_t keys(uint32_t head) const { return offset + slots / block * (key_bytes + value_bytes) * head; }
    uint64_t values(uint32_t head) const { return keys(head) + slots / block * key_bytes; }
    uint64_t state(uint32_t index) const { return keys(heads) + state_bytes * index; }
    uint64_t bytes() const { return state(kStates) - offset; }
    bool operator==(const LayerRing&) const = default;
};

class CacheLayout {
public:
    CacheLayout(const ModelSpec& spec, const CacheOptions& options);

    const CacheOptions& options() const { return options_; }
    uint64_t bytes() const { return bytes_; }
    // More or fewer sinks, the window less or more by as many. Only as long as no more positions than
    // `capacity` were written: until then a position's slot is its number, whatever the sinks.
    void set_sinks(uint32_t sinks);
    const LayerRing& ring(size_t layer) const { return rings_[layer]; }
    // Of the longest ring.
    uint32_t most_slots() const;
    // Whether some layer is recurrent.
    bool has_states() const;
    // Positions after which the first tokens leave some layer.
    uint64_t capacity() const { return options_.capacity(); }
    // How many of the last tokens can be taken back when `position` have been processed and `written` at
    // most, as far as layers other than recurrent ones are concerned.
    uint64_t rewindable(uint64_t position, uint64_t written) const;
    // The cells that positions before `written` use, and of recurrent layers the states whose bits are set
    // in `states`, in the order in which a saved session has them.
    std::vector<CellRange> used(uint64_t written, uint32_t states = 0) const;

private:
    CacheOptions options_;
    std::vector<LayerRing> rings_;
    uint64_t bytes_ = 0;
};

}  // namespace edgekit
