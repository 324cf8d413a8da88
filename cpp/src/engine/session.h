#pragma once
// One conversation: its cache, its sampler, and the generation in progress. Everything it needs is allocated
// when it is created.

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "decoder/decoder.h"
#include "engine/history.h"
#include "engine/lookup.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/stop_text.h"

namespace edgekit {

class Session {
public:
    Session(std::shared_ptr<const Model> model, const edgekit_session_options& options);
    // Allocated beside the decoder's state: logits, history, sampler.
    static uint64_t own_bytes(const ModelSpec& spec, const CacheOptions& cache);

    const edgekit_memory_plan& plan() const { return plan_.memory; }
    uint64_t position() const { return state_.position; }

    void forward(const int32_t* ids, size_t count, bool all_logits, float* logits);
    void generate(const edgekit_generate_options& options);
    void next(edgekit_event& event);
    void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
    void reset();
    void rewind(uint64_t count);
    std::unique_ptr<Session> fork() const;

    // engine/session_state.cpp
    uint64_t state_size() const;
    void write_state(std::byte* out) const;
    void read_state(std::span<const std::byte> bytes);
    void save(const std::string& path) const;
    void restore(const std::string& path);

private:
    using Clock = std::chrono::steady_clock;
    enum class Phase { idle, prefill, decode, finished };

    void check_ids(const int32_t* ids, size_t count) const;
    // One step of at most a chunk, with the bookkeeping of evictions and history.
    void append(const int32_t* ids, uint32_t count, bool all_logits, float* logits);
    void take_back(uint64_t count);
    bool full() const {
        return options_.on_full != EDGEKIT_ON_FULL_EVICT && state_.position >= state_.cache().capacity();
    }
    uint64_t room() const;
    bool evicted_event(edgekit_event& event, uint64_t at_least);
    bool prefill_step();
    void decode_step();
    bool accept(int32_t id);
    bool text_event(edgekit_event& event);
    void finish(edgekit_finish reason);
    void done_event(edgekit_event& event);
    uint64_t evicted() const;

    std::shared_ptr<const Model> model_;
    edgekit_session_options options_;
    SessionPlan plan_;
    DecoderState state_;
    TokenHistory history_;
    std::vector<float> logits_;  // [1 + kMaxDraft][vocab_size]
    Sampler sampler_;
    PromptLookup lookup_;
    std::optional<StreamDecoder> decoder_;
    StopText stops_;
    std::atomic<bool> cancelled_{false};

    // The generation in progress.
    Phase phase_ = Phase::idle;
    std::vector<int32_t> prompt_;
    size_t prompt_done_ = 0;
    uint32_t prompt_tokens_ = 0, cached_tokens_ = 0;
    uint32_t max_tokens_ = 0;
    bool ignore_eos_ = false;
    bool prompt_events_ = false;
    std::optional<int32_t> pending_;   // sampled, not yet in the cache
    std::vector<int32_t> recent_;      // ring of what penalties see
    std::vector<int32_t> new_tokens_;  // for the next event
    std::string new_text_;
    uint32_t generated_ = 0, drafted_ = 0, accepted_ = 0;
    uint64_t evicted_reported_ = 0;
    std::optional<edgekit_finish> finish_;
    Clock::time_point started_{}, prefilled_{};
    double prefill_ms_ = 0, first_token_ms_ = 0, decode_ms_ = 0;
};

}  // namespace edgekit
