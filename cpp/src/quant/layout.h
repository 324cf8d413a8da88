#pragma once
// Packed matrices: how a weight lies in the file, and therefore in memory. One layout for every instruction
// set.
//
// A matrix [n rows, k columns] (rows are output features) is cut into tiles of 16 rows; a tile holds all of
// its rows' columns and is contiguous. Rows past n are zero. Within a tile, four neighbouring columns of the
// 16 rows make one 64-byte line: one zmm, two ymm or four 16-byte vectors of 4-byte lanes, each lane one row,
// as the dot-product instructions (vpdpbusd, sdot by lane, i32x4.relaxed_dot) want them. One header per
// layout gives the bytes.

#include <cstddef>
#include <cstdint>

namespace edgekit {

inline constexpr uint32_t kTileRows = 16;
inline constexpr uint32_t kGroup = 32;  // columns that share a scale, in weights and in quantized activations
// A tile's group as matmul expands it (kernels/product.h): 8 lines of codes, then 16 float scales.
inline constexpr size_t kPanelCodeBytes = 512, kPanelGroupBytes = kPanelCodeBytes + 64;

// Functions here are compiled into every instruction set's kernels: inlined always, so that the linker has no
// copies to choose from.
enum class Layout : uint8_t { f32, f16, bf16, q8_block32, q4_block32 };

[[gnu::always_inline]] constexpr uint32_t round_up(uint32_t value, uint32_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}
[[gnu::always_inline]] constexpr size_t round_up64(size_t bytes) { return (bytes + 63) / 64 * 64; }

// What the rest of the engine knows of a layout: one row in the layout's header, all of them in layouts.h.
struct LayoutInfo {
    const char* name;  // in the file
    size_t (*tile_bytes)(uint32_t k);
    Layout layout;
    bool quantized;  // reads activations as codes
};

// A matrix in place. `data` is 64-byte aligned and holds n_tiles() · tile_bytes bytes.
struct Matrix {
    const std::byte* data = nullptr;
    Layout layout = Layout::f32;
    uint32_t n = 0;         // rows: output features
    uint32_t k = 0;         // columns: input features
    size_t tile_bytes = 0;  // see the layout's header

    [[gnu::always_inline]] uint32_t n_tiles() const { return (n + kTileRows - 1) / kTileRows; }
    [[gnu::always_inline]] uint32_t n_groups() const { return (k + kGroup - 1) / kGroup; }
    [[gnu::always_inline]] const std::byte* tile(uint32_t index) const { return data + index * tile_bytes; }
    explicit operator bool() const { return data != nullptr; }
};

}  // namespace edgekit
