// The sampler on every instruction set of this build: logits that are no numbers, temperatures near 0,
// forbidden tokens.

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/sampler.h"
#include "engine_support.h"
#include "error.h"

namespace {

using namespace edgekit;

constexpr uint32_t kVocab = 1003;  // no multiple of any vector
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> some_logits() {
    std::vector<float> logits(kVocab);
    for (uint32_t i = 0; i < kVocab; ++i) logits[i] = static_cast<float>(i * 7919 % kVocab) / 100 - 5;
    return logits;
}

// What sampling with these options gives: a token, or the status of its error.
struct Outcome {
    int32_t id = -1;
    Status status = Status::internal;
    bool operator==(const Outcome&) const = default;
};

Outcome sample(const Kernels& kernels, const SamplerOptions& options, std::vector<float> logits,
               uint64_t step = 0) {
    Sampler sampler(kernels, kVocab);
    TokenHistory text(16);
    text.append(3);
    try {
        return {sampler.sample(options, logits.data(), text, text.size(), step)};
    } catch (const Error& e) {
        return {-1, e.status()};
    }
}

// Greedy, plain sampling, and each filter.
std::vector<SamplerOptions> every_way() {
    std::vector<SamplerOptions> ways(6);
    for (size_t i = 1; i < ways.size(); ++i) ways[i].temperature = 1;
    ways[2].top_k = 40;
    ways[3].top_p = 0.9f;
    ways[4].min_p = 0.05f;
    ways[5].typical_p = 0.9f;
    return ways;
}

void test(const Kernels& kernels) {
    const std::string on = std::string(" on ") + kernels.isa;
    const std::vector<float> logits = some_logits();
    const auto best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    for (SamplerOptions way : every_way()) {
        for (const float odd : {std::nanf(""), kInfinity, -kInfinity}) {
            for (const uint32_t at : {0u, 500u, kVocab - 1}) {
                std::vector<float> damaged = logits;
                damaged[at] = odd;
                check(sample(kernels, way, damaged) == Outcome{-1, Status::invalid_file},
                      "logits that are not all numbers are the model's fault" + on);
            }
        }
        SamplerOptions forbidding = way;
        for (uint32_t id = 0; id < kVocab; ++id)
            if (id != 17) forbidding.bias.emplace_back(static_cast<int32_t>(id), -kInfinity);
        check(sample(kernels, forbidding, logits).id == 17, "the one token that is allowed" + on);
        forbidding.bias.emplace_back(17, -kInfinity);
        check(sample(kernels, forbidding, logits) == Outcome{-1, Status::invalid_argument},
              "no token is allowed" + on);
        SamplerOptions infinite = way;
        infinite.repetition_penalty = 1e-45f;
        infinite.frequency_penalty = infinite.presence_penalty = std::numeric_limits<float>::max();
        std::vector<float> positive = logits;
        positive[3] = 9;
        check(sample(kernels, infinite, positive) == Outcome{-1, Status::invalid_argument},
              "penalties beyond any number" + on);
        if (way.temperature == 0) continue;
        for (const float temperature : {1e-45f, 2e-39f, 2.9e-39f, 1e-30f, 1e-6f}) {
            way.temperature = temperature;
            for (uint64_t step = 0; step < 4; ++step)
                check(sample(kernels, way, logits, step).id == best,
                      "temperature " + std::to_string(temperature) + " is greedy" + on);
        }
    }
}

}  // namespace

int main() {
    const Kernels* tables[16];
    for (size_t i = 0, n = list_kernels(tables, 16); i < n; ++i) test(*tables[i]);
    return report();
}
