#pragma once
// The generation in progress as text: what was asked for, what the sampled tokens say, and why it ends. Which
// tokens the cache holds is the session's business.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "edgekit/edgekit.h"
#include "engine/known_text.h"
#include "engine/model.h"
#include "engine/stop_text.h"

namespace edgekit {

class Generation {
public:
    using Clock = std::chrono::steady_clock;

    Generation() = default;
    // `capacity`: positions of the session, the most tokens when the caller names no number. Throws
    // Error(invalid_argument) for options out of range.
    Generation(const edgekit_generate_options& options, const Model& model, uint64_t capacity);

    // The last tokens before the first sampled one: they decide whether it begins with a space, and may have
    // begun a code point.
    static constexpr size_t kTail = 8;
    void begin_after(std::span<const int32_t> tail);

    // The text that the session's tokens spell from its beginning to this generation's end.
    void begin_with(std::string_view text) { spoken_.emplace().append(text); }
    // That text, when it is known and the tokens, less those of a stop string, spell all of it.
    KnownText known_text() const;

    // Takes a sampled token in. The text may end with it.
    void take(int32_t id);
    void end(edgekit_finish reason);
    bool ended() const { return finish_.has_value(); }
    edgekit_finish finish() const { return *finish_; }
    // Of the tokens taken in, how many of the last are not wholly in the text: those of a stop string.
    uint32_t tokens_beyond_text() const { return stops_.tokens_held(); }
    uint64_t tokens_left() const { return max_tokens_ - done.generated_tokens; }

    // What was taken in since the last event.
    void clear_news();
    bool has_news() const { return !new_tokens_.empty() || !new_text_.empty(); }
    void text_event(edgekit_event& event) const;

    bool prompt_events = false;
    edgekit_event done{};  // the statistics so far
    Clock::time_point started = Clock::now(), prefilled{};

private:
    std::optional<edgekit_finish> ended_by(int32_t id) const;
    void say(std::string_view text);

    const Model* model_ = nullptr;
    uint32_t max_tokens_ = 0;
    bool ignore_eos_ = false;
    std::vector<int32_t> stop_ids_;
    StopText stops_;
    std::optional<StreamDecoder> decoder_;
    std::vector<int32_t> new_tokens_;
    std::string new_text_;
    std::optional<GrowingText> spoken_;
    std::optional<edgekit_finish> finish_;
};

// Since `start`.
double milliseconds_since(Generation::Clock::time_point start);

}  // namespace edgekit
