#pragma once
// A backend beside the processor, on a short text that nobody reads: whether it computes the same, and
// sooner.

#include <string>
#include <vector>

#include "backend/backend.h"

namespace edgekit {

// What a backend makes of the text.
struct Trial {
    uint32_t vocab_size = 0;
    std::vector<float> logits;  // [tokens][vocab_size]
    double token_seconds = 0;   // on average, of all but the first
};

// Throws what Backend::open and forward do.
Trial try_backend(Backend& backend, const ModelSpec& spec);

// Why the processor had better compute; empty: it had not. `name`: the other backend's.
std::string objection(std::string_view name, const Trial& other, const Trial& processor);

}  // namespace edgekit
