#pragma once
// One allocation cut into aligned pieces. The same code, run without memory, measures what it will need: that
// is how a memory plan and the memory itself cannot disagree.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "error.h"
#include "quant/layout.h"

namespace edgekit {

class Arena {
public:
    // Measures.
    Arena() = default;
    explicit Arena(std::byte* base) : base_(base) {}

    // `count` numbers, 64-byte aligned; nullptr while measuring.
    template <class T>
    T* take(size_t count) {
        std::byte* piece = base_ ? base_ + used_ : nullptr;
        used_ += round_up64(count * sizeof(T));
        return reinterpret_cast<T*>(piece);
    }
    size_t used() const { return used_; }

private:
    std::byte* base_ = nullptr;
    size_t used_ = 0;
};

// Zeroed memory on 64 bytes.
class AlignedMemory {
public:
    AlignedMemory() = default;
    // Throws Error(out_of_memory).
    explicit AlignedMemory(size_t bytes);
    std::byte* data() const { return data_; }

private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    std::unique_ptr<void, Free> memory_;
    std::byte* data_ = nullptr;
};

}  // namespace edgekit
