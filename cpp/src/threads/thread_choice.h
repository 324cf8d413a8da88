#pragma once
// How many threads a step takes when the app leaves that to us. A prompt multiplies, and takes every fast
// core. A token reads memory, which fewer threads may saturate, on some machines a third of them: that is
// tried on the first tokens, each number a few times, and now and then again, because other programs and heat
// change it. Results do not depend on the number of threads.

#include <cstdint>
#include <mutex>
#include <vector>

namespace edgekit {

class ThreadChoice {
public:
    // `fixed`: the app's own choice, which nothing changes. Otherwise `fast` of `most` for prompts, and what
    // turns out best for tokens.
    explicit ThreadChoice(uint32_t fixed);
    ThreadChoice(uint32_t fast, uint32_t most);

    uint32_t most() const { return candidates_.front(); }
    uint32_t for_prompt() const { return for_prompt_; }
    // For one more token; took() tells how long that many needed.
    uint32_t for_token();
    void took(uint32_t threads, double seconds);

private:
    static constexpr uint32_t kTries = 3;          // of each number; the shortest counts
    static constexpr uint32_t kSteps = 2048;       // tokens before trying again
    static constexpr double kWorthAThread = 1.03;  // fewer threads win when at most so much slower

    struct Candidate {
        uint32_t threads;
        uint32_t tries = 0;
        double best = 0;
    };
    void settle();

    std::mutex mutex_;                  // sessions of a model run side by side
    std::vector<uint32_t> candidates_;  // descending
    uint32_t for_prompt_;
    std::vector<Candidate> tried_;
    size_t trying_ = 0;  // candidates_.size(): settled
    uint32_t settled_;
    uint32_t steps_ = 0;
};

}  // namespace edgekit
