#include "threads/thread_choice.h"

#include <algorithm>

namespace edgekit {

ThreadChoice::ThreadChoice(uint32_t fixed) : ThreadChoice(fixed, fixed) {
    candidates_.resize(1);
    tried_.resize(1);
    trying_ = 1;
}

ThreadChoice::ThreadChoice(uint32_t fast, uint32_t most)
    : candidates_{std::max(fast, most)}, for_prompt_(fast), settled_(fast) {
    for (uint32_t n = fast; n >= 1; n = n * 3 / 4)
        if (n < candidates_.back()) candidates_.push_back(n);
    for (const uint32_t n : candidates_) tried_.push_back({n});
    if (candidates_.size() == 1) trying_ = 1;
}

uint32_t ThreadChoice::for_token() {
    const std::lock_guard lock(mutex_);
    if (trying_ < candidates_.size()) return candidates_[trying_];
    if (candidates_.size() > 1 && ++steps_ > kSteps) {
        for (Candidate& candidate : tried_) candidate.tries = 0;
        trying_ = 0;
        return candidates_[0];
    }
    return settled_;
}

void ThreadChoice::took(uint32_t threads, double seconds) {
    const std::lock_guard lock(mutex_);
    if (trying_ >= candidates_.size() || candidates_[trying_] != threads) return;
    Candidate& candidate = tried_[trying_];
    candidate.best = candidate.tries ? std::min(candidate.best, seconds) : seconds;
    if (++candidate.tries < kTries) return;
    // Once fewer threads are clearly slower, still fewer are slower still.
    double shortest = candidate.best;
    for (size_t i = 0; i < trying_; ++i) shortest = std::min(shortest, tried_[i].best);
    if (++trying_ == candidates_.size() || candidate.best > shortest * 1.3) settle();
}

void ThreadChoice::settle() {
    double shortest = tried_[0].best;
    for (const Candidate& candidate : tried_)
        if (candidate.tries == kTries) shortest = std::min(shortest, candidate.best);
    for (const Candidate& candidate : tried_)
        if (candidate.tries == kTries && candidate.best <= shortest * kWorthAThread)
            settled_ = candidate.threads;
    trying_ = candidates_.size();
    steps_ = 0;
}

}  // namespace edgekit
