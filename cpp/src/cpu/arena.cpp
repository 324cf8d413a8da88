#include "cpu/arena.h"

#include <string>

namespace edgekit {

namespace {

constexpr size_t kAlignment = 64;

}  // namespace

// calloc takes what is large from the system as it comes, zero and not there yet: opening costs nothing for
// what a short prompt never touches.
AlignedMemory::AlignedMemory(size_t bytes) : memory_(std::calloc(1, bytes + kAlignment)) {
    void* data = memory_.get();
    size_t space = bytes + kAlignment;
    if (!data)
        throw Error(Status::out_of_memory,
                    "the system has no " + std::to_string(bytes) +
                        " bytes of memory for a session: lower --window or --memory-budget");
    data_ = static_cast<std::byte*>(std::align(kAlignment, bytes, data, space));
}

}  // namespace edgekit
