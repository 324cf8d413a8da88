#include "engine/lookup.h"

#include <algorithm>

namespace edgekit {

namespace {

constexpr uint32_t kLongest = 4, kShortest = 3;  // tokens that must have occurred before
constexpr uint64_t kReach = 4096;                // how far back to look
constexpr float kWorthwhile = 0.35f;  // accepted share below which a guess costs more than it saves
constexpr uint32_t kRetry = 64;       // steps after which guessing is tried again
constexpr uint32_t kDefaultDraft = 4;

}  // namespace

void PromptLookup::configure(int32_t limit) {
    adaptive_ = limit < 0;
    limit_ = adaptive_ ? kDefaultDraft : std::min<uint32_t>(static_cast<uint32_t>(limit), kMaxDraft);
    accepted_ = 1.0f;
    idle_ = 0;
}

uint32_t PromptLookup::draft(const TokenHistory& history, int32_t next, std::span<int32_t> out) const {
    if (!limit_) return 0;
    if (adaptive_ && accepted_ < kWorthwhile && ++idle_ % kRetry != 0) return 0;
    const uint64_t size = history.size();
    const uint64_t oldest = size - std::min(size - history.first(), kReach);
    const auto limit = std::min<uint64_t>(limit_, out.size());
    for (uint32_t length = kLongest; length >= kShortest; --length) {
        if (size - oldest < length) continue;
        // The pattern is the last length - 1 tokens and `next`; it ends at `end`.
        for (uint64_t end = size; end-- > oldest + length - 1;) {
            if (history.at(end) != next) continue;
            uint32_t same = 1;
            while (same < length && history.at(end - same) == history.at(size - same)) ++same;
            if (same < length) continue;
            uint32_t count = 0;
            for (uint64_t p = end + 1; p < size && count < limit; ++p) out[count++] = history.at(p);
            if (count) return count;
        }
    }
    return 0;
}

void PromptLookup::report(uint32_t drafted, uint32_t accepted) {
    if (!drafted) return;
    accepted_ += 0.2f * (static_cast<float>(accepted) / static_cast<float>(drafted) - accepted_);
}

}  // namespace edgekit
