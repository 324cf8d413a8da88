#pragma once
// The one exception of the core. It carries the status that src/api hands across the C boundary.

#include <cstdint>
#include <stdexcept>
#include <string>

#include "edgekit/edgekit.h"

namespace edgekit {

enum class Status : int {
    invalid_argument = EDGEKIT_INVALID_ARGUMENT,
    invalid_file = EDGEKIT_INVALID_FILE,
    unsupported = EDGEKIT_UNSUPPORTED,
    out_of_memory = EDGEKIT_OUT_OF_MEMORY,
    over_budget = EDGEKIT_OVER_BUDGET,
    io_error = EDGEKIT_IO_ERROR,
    template_error = EDGEKIT_TEMPLATE_ERROR,
    cancelled = EDGEKIT_CANCELLED,
    context_full = EDGEKIT_CONTEXT_FULL,
    internal = EDGEKIT_INTERNAL,
};

class Error : public std::runtime_error {
public:
    Error(Status status, const std::string& message, uint64_t needed_bytes = 0)
        : std::runtime_error(message), status_(status), needed_bytes_(needed_bytes) {}
    Status status() const noexcept { return status_; }
    // With over_budget: the smallest budget that would do.
    uint64_t needed_bytes() const noexcept { return needed_bytes_; }

private:
    Status status_;
    uint64_t needed_bytes_;
};

}  // namespace edgekit
