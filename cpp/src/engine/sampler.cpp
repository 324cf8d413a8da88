#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "error.h"

namespace edgekit {

namespace {

// A number in [0, 1) from a seed and a counter (SplitMix64's finalizer, Steele et al. 2014).
double uniform(uint64_t seed, uint64_t step) {
    uint64_t z = seed + (step + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return static_cast<double>(z >> 11) * 0x1.0p-53;
}

// A seed that every language can hold and hand back: 53 bits.
uint64_t fresh_seed() {
    std::random_device device;
    return (uint64_t{device()} << 32 | device()) >> 11;
}

bool all_finite(const float* values, uint32_t n) {
    uint32_t exponents = 0;  // whether some exponent has every bit set
    for (uint32_t i = 0; i < n; ++i)
        exponents |= (std::bit_cast<uint32_t>(values[i]) & 0x7f800000u) == 0x7f800000u;
    return exponents == 0;
}

void check(bool ok, const char* name, double value, const char* range) {
    if (!ok)
        throw Error(Status::invalid_argument,
                    std::string(name) + " is " + std::to_string(value) + "; it must be " + range);
}

}  // namespace

SamplerOptions SamplerOptions::from(const edgekit_generate_options& o, uint32_t vocab_size) {
    check(o.temperature >= 0 && std::isfinite(o.temperature), "temperature", o.temperature, "0 or more");
    check(o.top_p > 0 && o.top_p <= 1, "top_p", o.top_p, "above 0 and at most 1");
    check(o.min_p >= 0 && o.min_p <= 1, "min_p", o.min_p, "between 0 and 1");
    check(o.typical_p > 0 && o.typical_p <= 1, "typical_p", o.typical_p, "above 0 and at most 1");
    check(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "repetition_penalty",
          o.repetition_penalty, "above 0");
    check(std::isfinite(o.presence_penalty), "presence_penalty", o.presence_penalty, "a finite number");
    check(std::isfinite(o.frequency_penalty), "frequency_penalty", o.frequency_penalty, "a finite number");
    check(o.penalty_window <= Sampler::kMaxPenaltyWindow, "penalty_window", o.penalty_window, "at most 4096");
    SamplerOptions options{o.temperature,
                           o.top_k,
                           o.top_p,
                           o.min_p,
                           o.typical_p,
                           o.repetition_penalty,
                           o.presence_penalty,
                           o.frequency_penalty,
                           o.penalty_window,
                           o.seed == EDGEKIT_SEED_RANDOM ? fresh_seed() : o.seed,
                           {}};
    for (size_t i = 0; i < o.bias_count; ++i) {
        check(o.bias_ids[i] >= 0 && static_cast<uint32_t>(o.bias_ids[i]) < vocab_size,
              "a logit bias's token id", o.bias_ids[i], "in the vocabulary");
        check(o.bias_values[i] < std::numeric_limits<float>::infinity(), "a logit bias", o.bias_values[i],
              "a finite number, or minus infinity to forbid the token");
        options.bias.emplace_back(o.bias_ids[i], o.bias_values[i]);
    }
    return options;
}

Sampler::Sampler(const Kernels& kernels, uint32_t vocab_size) : kernels_(kernels), vocab_size_(vocab_size) {
    candidates_.reserve(vocab_size);
    seen_.reserve(kMaxPenaltyWindow);
}

uint64_t Sampler::bytes(uint32_t vocab_size) {
    return vocab_size * sizeof(Candidate) + kMaxPenaltyWindow * sizeof(int32_t);
}

int32_t Sampler::sample(const SamplerOptions& options, float* logits, const TokenHistory& text,
                        uint64_t length, uint64_t step, std::span<const uint32_t> allowed) {
    if (!all_finite(logits, vocab_size_))
        throw Error(
            Status::invalid_file,
            "the logits are not all finite numbers: the model's weights, or the session restored, are "
            "damaged; fetch them again");
    for (const auto& [id, value] : options.bias) logits[id] += value;
    penalise(options, logits, text, length);
    if (!allowed.empty()) {
        for (uint32_t id = 0; id < vocab_size_; ++id)
            if (!(allowed[id / 32] >> id % 32 & 1)) logits[id] = -std::numeric_limits<float>::infinity();
    }
    const float most = kernels_.max(logits, vocab_size_);
    if (!std::isfinite(most))
        throw Error(Status::invalid_argument,
                    most < 0 ? "no token is allowed: logit bias and mask forbid every one"
                             : "logit bias or penalties make a logit infinite");
    if (options.temperature == 0)
        return static_cast<int32_t>(std::find(logits, logits + vocab_size_, most) - logits);

    const float inverse = std::min(1.0f / options.temperature, std::numeric_limits<float>::max());
    for (uint32_t i = 0; i < vocab_size_; ++i) logits[i] = (logits[i] - most) * inverse;
    const double total = kernels_.exp_sum(logits, 0.0f, logits, vocab_size_);
    const double random = uniform(options.seed, step);
    const bool filtered = (options.top_k && options.top_k < vocab_size_) || options.top_p < 1 ||
                          options.min_p > 0 || options.typical_p < 1;
    if (filtered) return draw_filtered(options, logits, total, random);
    double left = random * total;
    int32_t last = 0;
    for (uint32_t i = 0; i < vocab_size_; ++i) {
        if (logits[i] == 0) continue;
        last = static_cast<int32_t>(i);
        left -= logits[i];
        if (left < 0) break;
    }
    return last;
}

void Sampler::penalise(const SamplerOptions& options, float* logits, const TokenHistory& text,
                       uint64_t length) {
    if (options.repetition_penalty == 1 && options.presence_penalty == 0 && options.frequency_penalty == 0)
        return;
    seen_.clear();
    for (uint64_t p = length - std::min<uint64_t>(length - text.first(), options.penalty_window); p < length;
         ++p)
        seen_.push_back(text.at(p));
    std::sort(seen_.begin(), seen_.end());
    for (size_t i = 0; i < seen_.size();) {
        size_t end = i;
        while (end < seen_.size() && seen_[end] == seen_[i]) ++end;
        float& logit = logits[seen_[i]];
        logit = logit > 0 ? logit / options.repetition_penalty : logit * options.repetition_penalty;
        logit -= options.presence_penalty + options.frequency_penalty * static_cast<float>(end - i);
        if (std::isnan(logit))
            throw Error(Status::invalid_argument, "the penalties are too large for this model's logits");
        i = end;
    }
}

// Tokens whose weight is at least `at_least`, the most likely first (equal ones by id).
void Sampler::collect(const float* weights, float at_least) {
    candidates_.clear();
    for (uint32_t i = 0; i < vocab_size_; ++i)
        if (weights[i] >= at_least && weights[i] > 0)
            candidates_.push_back({weights[i], static_cast<int32_t>(i)});
}

// weights: relative to the most likely token's 1; total: their sum.
int32_t Sampler::draw_filtered(const SamplerOptions& options, const float* weights, double total,
                               double random) {
    const auto before = [](const Candidate& a, const Candidate& b) {
        return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
    };
    const auto sum = [&] {
        double all = 0;
        for (const Candidate& c : candidates_) all += c.probability;
        return all;
    };
    // Sorting a vocabulary costs more than the rest of sampling together. Nearly always the tokens above a
    // small weight suffice; what they do not settle is settled by all.
    const bool typical = options.typical_p < 1;
    const float floor = typical && options.top_k == 0 ? 0.0f : std::max(options.min_p, 1e-5f);
    collect(weights, floor);
    if (options.top_k ? candidates_.size() < std::min(options.top_k, vocab_size_)
                      : sum() < options.top_p * total)
        collect(weights, 0.0f);
    if (options.top_k && options.top_k < candidates_.size()) {
        std::nth_element(candidates_.begin(), candidates_.begin() + options.top_k, candidates_.end(), before);
        candidates_.resize(options.top_k);
        total = sum();
    }
    std::sort(candidates_.begin(), candidates_.end(), before);
    if (options.top_p < 1) {
        double mass = 0;
        size_t keep = 0;
        while (keep < candidates_.size() && mass < options.top_p * total)
            mass += candidates_[keep++].probability;
        candidates_.resize(std::max<size_t>(keep, 1));
    }
    if (options.min_p > 0) {
        const auto end = std::find_if(candidates_.begin() + 1, candidates_.end(),
                                      [&](const Candidate& c) { return c.probability < options.min_p; });
        candidates_.erase(end, candidates_.end());
    }
    total = sum();
    if (typical) {
        // Locally typical sampling (Meister et al., arXiv:2202.00666): nearest to the expected information
        // first.
        double entropy = 0;
        for (const Candidate& c : candidates_)
            entropy -= c.probability / total * std::log(c.probability / total);
        const auto distance = [&](const Candidate& c) {
            return std::abs(-std::log(c.probability / total) - entropy);
        };
        std::sort(candidates_.begin(), candidates_.end(), [&](const Candidate& a, const Candidate& b) {
            const double da = distance(a), db = distance(b);
            return da != db ? da < db : a.id < b.id;
        });
        double mass = 0;
        size_t keep = 0;
        while (keep < candidates_.size() && mass < options.typical_p * total)
            mass += candidates_[keep++].probability;
        candidates_.resize(std::max<size_t>(keep, 1));
        total = sum();
    }
    double left = random * total;
    for (const Candidate& c : candidates_) {
        left -= c.probability;
        if (left < 0) return c.id;
    }
    return candidates_.back().id;
}

}  // namespace edgekit
