#pragma once
// A kernel's source in WGSL, for the devices that take it.

#include <span>
#include <string>

#include "gpu/device.h"
#include "gpu/kernels.h"

namespace edgekit::gpu {

inline std::string wgsl_source(uint32_t lanes, std::span<const Constant> constants,
                               std::span<const std::string_view> files) {
    std::string source = "const LANES = " + std::to_string(lanes) + "u;\n";
    for (const Constant& each : constants)
        source += "const " + std::string(each.name) + " = " + std::to_string(each.value) + "u;\n";
    for (const std::string_view file : files) source += wgsl(file);
    return source;
}

}  // namespace edgekit::gpu
