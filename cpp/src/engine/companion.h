#pragma once
// A program of the app's own that computes the same model (edgekit_companion), and a text's way to it and
// back. The processor's cells stay where they are meanwhile: behind, by tokens that are known.

#include <atomic>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "backend/backend.h"
#include "edgekit/edgekit.h"
#include "engine/history.h"

namespace edgekit {

// A model's.
class Companion {
public:
    // Takes the table over: it is released with this, and when this throws Error(invalid_argument).
    explicit Companion(const edgekit_companion& table);
    ~Companion();

    // Throws Error(invalid_argument) unless it is of a model with so many tokens.
    void check(uint32_t vocab_size) const;
    const std::string& name() const { return name_; }
    const edgekit_companion& table() const { return table_; }
    uint64_t capacity() const { return uint64_t{table_.window} + table_.sinks; }

    std::atomic<bool> trusted{false};  // it has agreed with the processor over some text

private:
    const edgekit_companion table_;
    std::string name_;
};

// A text's. Most calls do nothing when the model has no companion.
class CompanionText {
public:
    // `companion`: nullptr, or of the model, which outlives this as `layout` does.
    CompanionText(Companion* companion, const CacheLayout& layout, uint32_t vocab_size);
    ~CompanionText();

    // Whether the text is with it.
    bool leads() const { return leads_; }
    const std::string& name() const { return companion_->name(); }
    // Why the text has come back; empty unless it has.
    std::string_view why() const { return why_; }

    // Whether the next `count` tokens are its to compute; asked before each step.
    bool takes(const TokenHistory& tokens, size_t count);
    // Computes them, as TokenCache::append: false when given up, nothing when it failed, and the text is the
    // processor's again.
    std::optional<bool> append(const TokenHistory& tokens, std::span<const int32_t> ids, uint32_t wanted,
                               float* logits, const GiveUp& give_up);
    // After a step of the processor's, with the logits of its last `wanted` tokens: when the companion is
    // ready and gives about the same ones, the text is its from here on.
    void follow(const TokenHistory& tokens, uint32_t wanted, const float* logits, const GiveUp& give_up);
    // Its text again holds no more than the first `end` tokens: perhaps none.
    void take_back(uint64_t end);
    // The next text has nothing in common with this one.
    void forget();

private:
    // Why it cannot have a text of so many tokens now; empty: it is still loading.
    std::optional<std::string> refusal(uint64_t size) const;
    // The companion's text up to `end` tokens; false when given up. Throws BackendFailure.
    bool bring(const TokenHistory& tokens, uint64_t end, const GiveUp& give_up);
    bool run(std::span<const int32_t> ids, float* logits, const GiveUp& give_up);
    void close();
    void come_back(std::string_view why);

    Companion* const companion_;
    const CacheLayout& layout_;
    const uint32_t vocab_size_;
    void* text_ = nullptr;
    uint64_t held_ = 0, most_held_ = 0;  // tokens in it, and ever since it was empty
    bool leads_ = false;
    bool failed_ = false;  // with this text
    std::string why_;
};

}  // namespace edgekit
