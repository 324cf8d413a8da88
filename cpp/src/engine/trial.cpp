#include "engine/trial.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>

namespace edgekit {

namespace {

// A prompt, read in one pass, and then so many tokens.
constexpr uint32_t kPrompt = 8, kTokens = 6;

// Rounding takes two backends of a deep model at 4 bits apart by 4% of the logits' spread; one that computes
// anything else is off by the whole.
constexpr float kTolerance = 0.15F;

// The largest difference of a row's logits, of their spread; not a number when one of them is none.
float difference(std::span<const float> row, std::span<const float> expected) {
    const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
    float most = 0;
    for (size_t i = 0; i < row.size(); ++i) {
        const float apart = std::fabs(row[i] - expected[i]);
        if (std::isnan(apart)) return apart;
        most = std::max(most, apart);
    }
    return most / std::max(*high - *low, std::numeric_limits<float>::min());
}

constexpr double kLeastSeconds = 1e-6;  // browsers' clocks stand still for 0.1 ms

std::string rate(double token_seconds) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f tokens/s", 1 / token_seconds);
    return text.data();
}

}  // namespace

Trial try_backend(Backend& backend, const ModelSpec& spec) {
    using Clock = std::chrono::steady_clock;
    const CacheLayout layout(spec, {.window = kPrompt + kTokens, .sinks = 0, .chunk = kPrompt});
    const std::unique_ptr<Context> context = backend.open(layout);
    std::vector<int32_t> ids(kPrompt + kTokens);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>((7919 * i + 1) % spec.vocab_size);

    Trial trial{.vocab_size = spec.vocab_size,
                .logits = std::vector<float>(size_t{1 + kTokens} * spec.vocab_size)};
    double seconds = 0;
    float* out = trial.logits.data();
    for (uint32_t position = 0; position < ids.size();) {
        const uint32_t rows = position == 0 ? kPrompt : 1;
        const Part part{.context = *context,
                        .layout = layout,
                        .position = position,
                        .rows = rows,
                        .ids = &ids[position],
                        .wanted = 1};
        const Clock::time_point began = Clock::now();
        backend.forward({&part, 1}, Output::logits, out, {});
        if (position > kPrompt) seconds += std::chrono::duration<double>(Clock::now() - began).count();
        position += rows;
        out += spec.vocab_size;
    }
    trial.token_seconds = std::max(seconds / (kTokens - 1), kLeastSeconds);
    return trial;
}

std::string objection(std::string_view name, const Trial& other, const Trial& processor) {
    const size_t width = processor.vocab_size;
    for (size_t at = 0; at < processor.logits.size(); at += width)
        if (!(difference({&other.logits[at], width}, {&processor.logits[at], width}) <= kTolerance))
            return "the " + std::string(name) + " here computes other numbers than the processor";
    if (!(other.token_seconds < processor.token_seconds))
        return "the processor is faster here: " + rate(processor.token_seconds) + ", the " +
               std::string(name) + " " + rate(other.token_seconds);
    return {};
}

}  // namespace edgekit
