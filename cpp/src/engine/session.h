#pragma once
// One conversation: its cache, its sampler, and the generation in progress. Everything it needs is allocated
// when it is created.

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/generation.h"
#include "engine/logit_mask.h"
#include "engine/lookup.h"
#include "engine/model.h"
#include "engine/token_cache.h"

namespace edgekit {

class Session {
public:
    Session(std::shared_ptr<const Model> model, const edgekit_session_options& options);
    edgekit_memory_plan plan() const;
    uint64_t position() const { return cache_.position(); }

    void forward(std::span<const int32_t> ids, bool all_logits, float* logits);
    // `mask`, unless null, must outlive the generation, and has accepted its tokens when that ends.
    void generate(const edgekit_generate_options& options, LogitMask* mask = nullptr);
    void next(edgekit_event& event);
    void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
    void reset();
    void rewind(uint64_t count);
    std::unique_ptr<Session> fork() const;

    // engine/session_state.cpp
    uint64_t state_size() const;
    void write_state(std::byte* out);
    void read_state(std::span<const std::byte> bytes);
    void save(const std::string& path);
    void restore(const std::string& path);

private:
    using Clock = std::chrono::steady_clock;
    enum class Phase { idle, prefill, decode };

    // One step of at most a chunk; false when it was cancelled.
    bool append(std::span<const int32_t> ids, bool all_logits, float* logits);
    bool cancelled();
    void take_back(uint64_t count);
    // How many of the first of `ids` need not be computed again.
    uint64_t reusable(std::span<const int32_t> ids) const;
    // How many tokens fit after the first `kept`.
    uint64_t room(uint64_t kept) const;
    uint64_t room() const { return room(position()); }
    // Sinks for a text whose first `wanted` tokens matter, unless the caller has set their number or it is
    // too late.
    void choose_sinks(uint32_t wanted);
    // Calls put(bytes) for the saved state, piece by piece.
    template <class Put>
    void write_pieces(const Put& put);
    void advance(edgekit_event& event);
    void prefill_step();
    void decode_step();
    void accept(int32_t id);
    void take_stop_back();
    bool evicted_event(edgekit_event& event, uint64_t at_least);
    bool moved_event(edgekit_event& event);
    void say_who(edgekit_event& event) const;

    std::shared_ptr<const Model> model_;
    edgekit_session_options options_;
    const SessionPlan plan_;
    TokenCache cache_;
    KnownText known_text_;            // what the tokens spell, of a conversation
    std::optional<int32_t> pending_;  // sampled, part of the text, not yet in the cache
    SamplerOptions sampler_options_;
    PromptLookup lookup_;
    std::atomic<bool> cancelled_{false};
    Clock::time_point polled_{};  // last

    Phase phase_ = Phase::idle;
    Generation generation_;
    MaskedRows allowed_;
    std::vector<int32_t> prompt_;  // what of it is not in the cache when the generation begins
    size_t prompt_done_ = 0;
    uint64_t evicted_reported_ = 0;
    std::string_view computed_by_;  // as events have told
};

}  // namespace edgekit
