#pragma once
// A kernel's source in Metal's language, of msl/<file>.metal.

#include <span>
#include <string>
#include <string_view>

#include "gpu/device.h"
#include "gpu/kernels.h"

namespace edgekit::gpu {

inline constexpr uint32_t kMetalSimd = 32;  // lanes of a simdgroup, as msl/common.metal has it

inline std::string metal_source(uint32_t lanes, std::span<const Constant> constants,
                                std::span<const std::string_view> files) {
    const auto define = [](std::string_view name, uint32_t value) {
        return "#define " + std::string(name) + " " + std::to_string(value) + "u\n";
    };
    std::string source = define("LANES", lanes);
    for (const Constant& each : constants) source += define(each.name, each.value);
    for (const std::string_view file : files) source += msl(file);
    return source;
}

}  // namespace edgekit::gpu
