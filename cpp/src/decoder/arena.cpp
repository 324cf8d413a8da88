#include "decoder/arena.h"

#include <cstring>
#include <string>

namespace edgekit {

namespace {

constexpr std::align_val_t kAlignment{64};

}  // namespace

AlignedMemory::AlignedMemory(size_t bytes) : size_(bytes) {
    memory_.reset(static_cast<std::byte*>(::operator new(bytes, kAlignment, std::nothrow)));
    if (!memory_)
        throw Error(Status::out_of_memory,
                    "the system has no " + std::to_string(bytes) +
                        " bytes of memory for a session: lower --window or --memory-budget");
    std::memset(memory_.get(), 0, bytes);
}

void AlignedMemory::Free::operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }

}  // namespace edgekit
