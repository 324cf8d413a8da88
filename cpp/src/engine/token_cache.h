#pragma once
// The tokens of a session as its context holds them: which they are, where their cells lie, and how many can
// be taken back. What they are for is the session's business.

#include <cstdint>
#include <memory>
#include <span>

#include "backend/backend.h"
#include "engine/companion.h"
#include "engine/history.h"
#include "engine/relay.h"
#include "engine/state_slots.h"

namespace edgekit {

class TokenCache {
public:
    // `companion`: nullptr where there is none. Throws Error(out_of_memory).
    TokenCache(Relay& relay, Companion* companion, const ModelSpec& spec, const CacheOptions& options);
    // Allocated beside the context.
    static uint64_t own_bytes(const CacheOptions& options);

    const CacheLayout& layout() const { return layout_; }
    const CacheOptions& options() const { return layout_.options(); }
    uint64_t capacity() const { return layout_.capacity(); }
    const TokenHistory& tokens() const { return tokens_; }
    uint64_t position() const { return tokens_.size(); }
    // Positions that some layer can no longer attend to: those after the sinks that left the window.
    uint64_t evicted() const { return position() > capacity() ? position() - capacity() : 0; }
    // Why the processor computes, and not the companion or the backend that was asked for; empty: these do.
    std::string_view relayed() const;
    std::string_view computed_by() const;
    // Whether several outputs cost about as much as one.
    bool drafts() const { return !companion_.leads(); }
    // How many of the last tokens can be taken back.
    uint64_t rewindable() const;

    // Computes at most a chunk of tokens; `logits`, unless nullptr, receives those of the last `wanted`. When
    // the companion or the backend fails, the one after it repeats the step.
    // False when it was given up: nothing was added then, though less may be left to take back.
    bool append(std::span<const int32_t> ids, uint32_t wanted, float* logits, const GiveUp& give_up);
    // Throws Error(invalid_argument) for more than can be.
    void take_back(uint64_t count);
    // The text is likely to be taken back to where it ends now: the states stay at hand.
    void keep() { states_.keep(position()); }
    // And the sinks are as at first.
    void clear();
    // Only as long as can_set_sinks.
    void set_sinks(uint32_t sinks) { layout_.set_sinks(sinks); }
    bool can_set_sinks() const { return written_ <= capacity(); }
    // Takes over another's tokens and sinks; it was created with the same options.
    void copy(const TokenCache& from);

    // The furthest position written since the text began.
    uint64_t written() const { return written_; }
    // Calls put with the bytes of every cell in use, piece by piece, after computing those that are behind.
    void save_cells(const Context::Put& put);
    const StateSlots::Record& states() const { return states_.record(); }
    // What was saved, after clear and set_sinks: `tokens` from `first` on, the digest of those before, the
    // cells.
    void restore(uint64_t first, const Sha256::Digest& digest, std::span<const int32_t> tokens,
                 uint64_t written, const StateSlots::Record& states, const std::byte* cells);

private:
    // The backend's, or of the one after it.
    std::unique_ptr<Context> open_context();
    // The cells of tokens that the companion computed: all, or a chunk.
    bool catch_up(const GiveUp& give_up);  // false when given up
    bool catch_up_chunk(const GiveUp& give_up);
    bool pass(uint64_t position, std::span<const int32_t> ids, uint32_t wanted, float* logits,
              const GiveUp& give_up);
    // Every cell in use into another context of the same layout.
    void move_cells(const Context& from, Context& to) const;
    // The cells to the backend after the one that failed: as they are where they can still be read, else
    // computed again. Throws the failure when neither can be.
    void hand_over(const BackendFailure& failure);

    Relay& relay_;
    Backend* backend_;      // whose the context is
    const uint32_t sinks_;  // when it was laid out
    CacheLayout layout_;
    std::unique_ptr<Context> context_;
    TokenHistory tokens_;
    uint64_t written_ = 0;
    StateSlots states_;
    uint64_t processed_ = 0;  // tokens in the context: all, unless the companion leads or has led
    CompanionText companion_;
};

}  // namespace edgekit
