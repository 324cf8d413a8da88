#pragma once
// The kernels' parameters, as wgsl/<kernel>.wgsl declares and explains them, and their sources, of which a
// build has those of its device. Places in the
// arena and in the table of rows are in words, places of tiles in vectors of 16 bytes.

#include <cstdint>
#include <string>
#include <string_view>

namespace edgekit::gpu {

inline constexpr uint32_t kNone = UINT32_MAX;

struct EmbedParams {
    uint32_t groups, codes, tile, first_tile, n_tiles, base, ids, width, out;
    float scale;
    uint32_t codes_in = 0, floats_in = 0;
};

struct MatvecParams {
    struct Segment {
        uint32_t base, end, first, rows, out, stride, bias, unused = 0;
    };
    static constexpr uint32_t kSegments = 3;
    Segment segments[kSegments];
    uint32_t groups, codes, tile, width, codes_in, floats_in, kept, compact, add;
    float scale, softcap;
    uint32_t top_k, chosen, by_choice;
};

struct NormParams {
    uint32_t kind = 0, width = 0, input = 0, weight = kNone, bias = kNone, kept = 0, compact = 0,
             floats = kNone, codes = kNone, sum = kNone;
    float scale = 1, scalar = 1, eps = 0;
};

struct StoreParams {
    uint32_t n_heads, n_kv_heads, head_dim, half, angles, sink_angles, q, k, v, q_out, q_sink, ring, layer,
        qk_norm, kind, q_weight, q_bias, k_weight, k_bias, kept;
    float eps, scale;
};

struct AttendParams {
    uint32_t n_heads, n_kv_heads, head_dim, pieces, q, q_sink, ring, layer, parts, kept;
    float softcap;
};

struct JoinParams {
    uint32_t n_heads, head_dim, pieces, parts, sinks, gate, gates, floats, codes, kept;
};

struct ConvParams {
    uint32_t width, taps, input, weight, bias, out, ring, layer, kept;
};

struct ActivateParams {
    uint32_t width, gate, up, up_stride, kept, floats = kNone, codes = kNone, choices = 1, alpha_p = kNone,
                                               alpha_n = kNone;
};

struct RouteParams {
    uint32_t n_experts, top_k, normalize, scores, chosen, shares, kept;
};

struct CombineParams {
    uint32_t width, top_k, input, shares, out, kept, add;
    float scale;
};

// The text of wgsl/<name>.wgsl, or of msl/<name>.metal, which the build puts into the library.
std::string_view wgsl(std::string_view name);
std::string_view msl(std::string_view name);

}  // namespace edgekit::gpu
