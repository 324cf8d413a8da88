#pragma once
// One call of Decoder::forward, as its phases see it. Private to the decoder.

#include "cpu/sequence.h"

namespace edgekit {

// Rows of a prefill chunk that share one reading of the keys and values.
inline constexpr uint32_t kAttendRows = 16;

// Rows that are gathered for an expert at a time.
inline constexpr uint32_t kExpertRows = 64;

// Numbers in a thread's gate and up scratch: enough columns at a time that a chunk's rows share the reading
// of their weights.
constexpr uint32_t gate_floats(uint32_t chunk) { return chunk * 64 > 4096 ? chunk * 64 : 4096; }

// Rows [first, first + m) of activations of this width.
inline Activations rows_of(const Activations& all, uint32_t width, uint32_t first, uint32_t m) {
    const size_t groups = size_t{first} * row_groups(width);
    return {all.x ? all.x + first * all.stride_x : nullptr, all.stride_x, all.codes + groups * kGroup,
            all.groups + groups, m};
}

// Each thread has its own. Once the cache has what the last layer keeps of a row, only rows whose logits are
// wanted go on.
struct Decoder::Step {
    static constexpr uint32_t kNever = UINT32_MAX;
    Sequence& sequence;
    const CacheLayout& layout;
    DecoderState& state;
    ThreadTeam& team;
    uint32_t m;  // rows
    uint32_t n_layers;
    uint32_t wanted;  // of those, the last ones, whose logits are wanted
    float* logits;
    uint64_t first;  // position of the first row
    const GiveUp& give_up;
    uint32_t looks = 0;    // at give_up, so far
    uint32_t dropped = 0;  // rows before the first one, in the residual stream and the angles

    // How many rows need what comes after a layer's keys and values.
    uint32_t kept(uint32_t layer) const { return layer + 1 == n_layers ? wanted : m; }
    void keep_last(uint32_t rows) {
        dropped += m - rows;
        first += m - rows;
        m = rows;
    }
    // Every member looks at the same places, with a barrier between any two. The first one asks, and all
    // leave at the look after that: by then each of them knows.
    bool given_up(uint32_t thread) {
        if (thread == 0 && give_up && give_up() && state.last_look_ == kNever) state.last_look_ = looks + 1;
        return looks++ >= state.last_look_;
    }
    float* x(uint32_t d_model) const { return state.x_ + size_t{dropped} * d_model; }
    ThreadScratch& scratch(uint32_t thread) { return state.threads_[thread]; }
};

}  // namespace edgekit
