#pragma once
// Where a model's sessions draw their tokens. They do so in turn, from a pass's logits to the last draw, and
// need the memory for it but once.

#include <cstdint>
#include <memory>

#include "engine/lookup.h"
#include "engine/sampler.h"
#include "threads/turns.h"

namespace edgekit {

struct Sampling {
    static constexpr size_t kRows = 1 + PromptLookup::kMaxDraft;

    Sampling(const Kernels& kernels, uint32_t vocab_size)
        : logits(new float[kRows * vocab_size]), sampler(kernels, vocab_size) {}
    static uint64_t bytes(uint32_t vocab_size) {
        return kRows * vocab_size * sizeof(float) + Sampler::bytes(vocab_size);
    }

    Turns turns;
    const std::unique_ptr<float[]> logits;  // [kRows][vocab_size]
    Sampler sampler;
};

}  // namespace edgekit
