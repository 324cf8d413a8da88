#pragma once
// One call of Decoder::forward, as its phases see it. Private to the decoder.

#include "decoder/decoder.h"

namespace edgekit {

// Rows of a prefill chunk that share one reading of the keys and values.
inline constexpr uint32_t kAttendRows = 16;

// Numbers in a thread's gate and up scratch: enough columns at a time that a chunk's rows share the reading
// of their weights.
constexpr uint32_t gate_floats(uint32_t chunk) { return chunk * 64 > 4096 ? chunk * 64 : 4096; }

struct Decoder::Step {
    DecoderState& state;
    ThreadTeam& team;
    const int32_t* ids;
    uint32_t m;  // rows
    bool all_logits;
    float* logits;
    uint64_t first;  // position of the first row

    ThreadScratch& scratch(uint32_t thread) { return state.threads_[thread]; }
};

}  // namespace edgekit
