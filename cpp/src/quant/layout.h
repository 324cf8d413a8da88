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

// A tile's group as matmul expands it for many rows (kernels/panel.h): 8 lines of codes, then 16 scales.
inline constexpr size_t kPanelCodeBytes = 512, kPanelGroupBytes = kPanelCodeBytes + 64;

// Functions here are compiled into every instruction set's kernels: inlined always, so that the linker has no
// copies to choose from.
enum class Layout : uint8_t {
    f32,
    f16,
    bf16,
    q8_block32,
    q4_block32,
    q5_block32,
    q6_block32,
    q3_block32,
    q4_affine32,
};

[[gnu::always_inline]] constexpr uint32_t round_up(uint32_t value, uint32_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}
[[gnu::always_inline]] constexpr size_t round_up64(size_t bytes) { return (bytes + 63) / 64 * 64; }

// All that the engine knows of a layout: one row in the layout's header, all of them in layouts.h. A tile is
// what belongs to its rows, what belongs to its groups of columns, and the groups' codes, each of the latter
// two up to a multiple of 64 bytes.
struct LayoutInfo {
    const char* name;  // in the file
    Layout layout;
    uint16_t group;        // columns
    uint16_t row_bytes;    // of a tile's row scales
    uint16_t scale_bytes;  // of a group's scales
    uint16_t code_bytes;   // of a group's codes

    [[gnu::always_inline]] constexpr bool quantized() const {
        return group > 1;
    }  // reads activations as codes
    [[gnu::always_inline]] constexpr size_t n_groups(uint32_t k) const {
        return (size_t{k} + group - 1) / group;
    }
    [[gnu::always_inline]] constexpr size_t codes_offset(uint32_t k) const {
        return row_bytes + round_up64(scale_bytes * n_groups(k));
    }
    [[gnu::always_inline]] constexpr size_t tile_bytes(uint32_t k) const {
        return codes_offset(k) + round_up64(code_bytes * n_groups(k));
    }
};

// A matrix in place. `data` is 64-byte aligned and holds n_tiles() · tile_bytes bytes.
struct Matrix {
    const std::byte* data = nullptr;
    Layout layout = Layout::f32;
    uint32_t n = 0;         // rows: output features
    uint32_t k = 0;         // columns: input features
    size_t tile_bytes = 0;  // see LayoutInfo

    [[gnu::always_inline]] uint32_t n_tiles() const { return (n + kTileRows - 1) / kTileRows; }
    [[gnu::always_inline]] uint32_t n_groups() const { return (k + kGroup - 1) / kGroup; }
    [[gnu::always_inline]] const std::byte* tile(uint32_t index) const { return data + index * tile_bytes; }
    explicit operator bool() const { return data != nullptr; }
};

}  // namespace edgekit
