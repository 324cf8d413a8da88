// What every kernel begins with. The six buffers are those of wgsl/common.wgsl, where the table of rows is explained;
// the arena's words are floats, or what they are cast to. The kernel declares Params.

#include <metal_stdlib>
using namespace metal;

#define BUFFERS                                  \
    constant Params &p [[buffer(0)]],            \
    device const uint *rows [[buffer(1)]],       \
    device const float *vectors [[buffer(2)]],   \
    device const uint4 *weights [[buffer(3)]],   \
    device float *arena [[buffer(4)]],           \
    device uint *cells [[buffer(5)]],            \
    uint3 group [[threadgroup_position_in_grid]], \
    uint lane [[thread_index_in_threadgroup]]

constexpr constant uint NONE = 0xffffffffu;
constexpr constant float NEVER = -3.0e38f;  // below every score
constexpr constant uint SIMD = 32;          // lanes of a simdgroup

// The first row that a dispatch computes: of all, or of those with an output.
inline uint first_row(device const uint *rows, uint kept) { return kept ? rows[1] : 0; }

inline float4 signed_bytes(uint word) { return float4(as_type<char4>(word)); }
inline uint packed_bytes(int4 v) { return as_type<uint>(char4(v)); }
inline float2 two_halves(uint word) { return float2(as_type<half2>(word)); }
inline float2 two_bf16(uint word) { return float2(as_type<float>(word << 16), as_type<float>(word & 0xffff0000u)); }
// Four 16-bit numbers of a quarter of 32 bytes that begin at `at`: rows 4q … 4q + 3 of a tile.
inline uint2 half_words(device const uint4 *weights, uint at, uint q) {
    return ((device const uint2 *)weights)[2 * at + q];
}
