#pragma once
// Between a kernel that runs as C++ (metal_stdlib) and the device that runs it.

inline constexpr unsigned kMetalSimd = 32;  // lanes of a simdgroup
inline constexpr unsigned kMetalSlot = 16;  // bytes that a lane exchanges

// What a kernel calls.
struct MetalShim {
    unsigned (*lane)();
    void (*barrier)();
    // What all lanes of the simdgroup have given, kMetalSlot bytes each.
    const char* (*exchange)(const void* mine, unsigned long size);
    void (*access)(const void* at, unsigned long size, bool writes);
};
