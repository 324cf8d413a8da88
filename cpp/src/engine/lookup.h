#pragma once
// Prompt-lookup drafting: when the last few tokens occurred before, what followed them then is a guess at
// what follows now (Saxena 2023; Yang et al., arXiv:2304.04487). The model checks a guess in one step; since
// each token is still drawn from the model's own distribution and kept only where it equals the guess, the
// text is distributed as without drafting.

#include <cstdint>
#include <span>

#include "engine/history.h"

namespace edgekit {

class PromptLookup {
public:
    static constexpr uint32_t kMaxDraft = 7;

    // `limit`: most tokens to draft, 0: none; -1: the engine's choice.
    void configure(int32_t limit);
    // Writes a guess at what follows `history` and then `next`; returns its length.
    uint32_t draft(const TokenHistory& history, int32_t next, std::span<int32_t> out) const;
    // Learns how well guesses do, and stops guessing where they do not pay.
    void report(uint32_t drafted, uint32_t accepted);

private:
    uint32_t limit_ = 0;
    bool adaptive_ = false;
    float accepted_ = 1.0f;      // running share of accepted tokens
    mutable uint32_t idle_ = 0;  // steps since guessing was given up
};

}  // namespace edgekit
