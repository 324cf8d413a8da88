#pragma once
// From logits to a token. Filters come in the order Transformers applies them: bias, penalties, temperature,
// top-k, top-p, min-p, typical. The random number of a step depends on the seed and the step alone, so the
// same seed gives the same text wherever the logits agree.

#include <cstdint>
#include <span>
#include <vector>

#include "edgekit/edgekit.h"
#include "engine/history.h"
#include "kernels/kernels.h"

namespace edgekit {

struct SamplerOptions {
    float temperature = 0;
    uint32_t top_k = 0;
    float top_p = 1;
    float min_p = 0;
    float typical_p = 1;
    float repetition_penalty = 1;
    float presence_penalty = 0;
    float frequency_penalty = 0;
    uint32_t penalty_window = 64;
    uint64_t seed = 0;  // the one used: EDGEKIT_SEED_RANDOM is drawn already
    std::vector<std::pair<int32_t, float>> bias;

    // Throws Error(invalid_argument) for values outside their range.
    static SamplerOptions from(const edgekit_generate_options& options, uint32_t vocab_size);
};

class Sampler {
public:
    static constexpr uint32_t kMaxPenaltyWindow = 4096;

    Sampler(const Kernels& kernels, uint32_t vocab_size);

    // Picks what follows the first `length` tokens of `text`, of which penalties see the last ones. `logits`
    // [vocab_size] are changed; `step` numbers the choices of one generation; `allowed`: see LogitMask::fill,
    // empty for all. Allocates nothing. Throws Error(invalid_file) when the logits are not numbers,
    // Error(invalid_argument) when bias, penalties and mask leave no token or too large a number.
    int32_t sample(const SamplerOptions& options, float* logits, const TokenHistory& text, uint64_t length,
                   uint64_t step, std::span<const uint32_t> allowed = {});

    static uint64_t bytes(uint32_t vocab_size);

private:
    struct Candidate {
        float probability;  // relative to the most likely token
        int32_t id;
    };
    void penalise(const SamplerOptions& options, float* logits, const TokenHistory& text, uint64_t length);
    int32_t draw_filtered(const SamplerOptions& options, const float* weights, double total, double uniform);
    void collect(const float* weights, float at_least);

    const Kernels& kernels_;
    const uint32_t vocab_size_;
    std::vector<Candidate> candidates_;
    std::vector<int32_t> seen_;
};

}  // namespace edgekit
