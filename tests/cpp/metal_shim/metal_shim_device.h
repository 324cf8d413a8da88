#pragma once
// What tests ask of the device that runs Metal's kernels as C++.

#include <array>
#include <cstdint>
#include <functional>
#include <string>

namespace edgekit::gpu {

// Of one of the six buffers, over all simdgroups: what each touched, and in how many lines of 128 bytes.
struct MetalTraffic {
    uint64_t bytes = 0, lines = 0;
};

struct MetalShimControl {
    bool counting = false;
    uint64_t dispatches = 0;
    std::array<MetalTraffic, 6> traffic{};  // in the order of Buffers

    // Which call of the device fails, and whether all later ones do.
    uint64_t calls = 0, failing = UINT64_MAX;
    bool lost = false;

    // Changes a kernel's source before it is compiled.
    std::function<void(std::string& source)> plant;
};
extern MetalShimControl metal_shim;

}  // namespace edgekit::gpu
