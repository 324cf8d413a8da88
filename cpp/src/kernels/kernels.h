#pragma once
// The kernels an instruction set provides. kernels/*.h write them once over the names of simd/<isa>.h;
// isa/<isa>.cpp compiles them with that target's flags into a table. Nothing here allocates, throws or knows
// of threads: callers split the work by tiles, heads or rows and hand in the scratch memory.
//
// Pointers to activations, scratch and caches are 64-byte aligned; rows of a buffer are as far apart as its
// stride says.

#include <cstddef>
#include <cstdint>

#include "quant/kv.h"
#include "quant/layout.h"

namespace edgekit {

// How many groups lie from one row of k quantized activations to the next: as many as it has, and up to three
// more that nobody reads. Its codes are then an odd number of 64-byte lines, and the rows of a prompt use all
// sets of a cache alike; a power of two would have them compete for a few.
[[gnu::always_inline]] constexpr uint32_t row_groups(uint32_t k) {
    const uint32_t groups = (k + kGroup - 1) / kGroup;
    return groups + (6 - groups % 4) % 4;
}

// What quantize makes of a group of 32 activations beside their codes: x ≈ scale · code, the code rounded to
// nearest even (0 past k).
struct ActivationGroup {
    float scale;  // max|x| / 127
    float sum;    // scale · the sum of the codes: what the minimum of a group of weights is multiplied by
    // Where a group's sums of products begin, so that biased weights come out unbiased: two words of which
    // each instruction set makes what it needs.
    int32_t starts[2];
};

// m rows of k activations, for matmul. Dense layouts read `x`, quantized ones the codes and their groups.
struct Activations {
    const float* x = nullptr;                 // [m][stride_x]
    size_t stride_x = 0;                      // elements
    const int8_t* codes = nullptr;            // [m][32 · row_groups(k)]
    const ActivationGroup* groups = nullptr;  // [m][row_groups(k)]
    uint32_t m = 0;
};

// What matmul does with a result y[m][n]: out = scale · (y + bias) or out += scale · (y + bias).
struct Store {
    float* out = nullptr;  // [m][stride], from column `first_column` of y on
    size_t stride = 0;
    const float* bias = nullptr;  // [n] or nullptr
    float scale = 1.0f;
    bool add = false;
    uint32_t first_column = 0;  // at most that of the first tile
};

enum class Activation : uint8_t { silu, gelu, gelu_tanh, relu, relu2, sigmoid, swiglu_oai, xielu };

// One key/value head's part of a layer's ring: `n_slots` positions (a multiple of 16). quant/kv.h documents
// the bytes.
struct KvHead {
    std::byte* k = nullptr;  // nullptr: vectors that are keys and values alike
    std::byte* v = nullptr;
    KvType type = KvType::f16;
    uint32_t head_dim = 0;  // at most kv::kMaxHeadDim
};

// Queries that attend to one KV head over one run of neighbouring slots. Query i (its rotated q already
// multiplied by the attention scale) sees slots [begin[i], end[i]). Running softmax state per query: max, sum
// and the unnormalised output; a new state has max = -INFINITY, sum = 0, acc = 0, and states of disjoint runs
// are joined by attend_merge.
struct AttendState {
    float* max;  // [n]
    float* sum;  // [n]
    float* acc;  // [n][head_dim]
};

struct AttendArgs {
    KvHead kv;
    // Read by f32 and f16 caches, and by those without keys: [n][head_dim].
    const float* q = nullptr;
    // Read by other int8 and int4 caches: [n] · attend_query_bytes, made by attend_query.
    const std::byte* prepared = nullptr;
    uint32_t n = 0;
    const uint32_t* begin = nullptr;
    const uint32_t* end = nullptr;
    float softcap = 0.0f;  // 0: none
    AttendState state{};
    std::byte* scratch = nullptr;  // attend_scratch_bytes(n, head_dim)
};

// Rows of a text taken into up to 16 columns of a head's state S, one after another: with k and v scaled as
// the model wants them, S = decay · S + k ⊗ weight · (v - kᵀ · decay · S) by the delta rule, without its
// second term otherwise, and out = qᵀ · S.
struct ScanArgs {
    float* state;  // [key_dim][16]
    uint32_t key_dim = 0, columns = 0, rows = 0;
    bool delta = false;
    const float* q;  // [key_dim], of the next row `stride` further; so are k and v [columns]
    const float* k;
    const float* v;
    size_t stride = 0;
    const float* decay;    // [rows]
    const float* weight;   // [rows]
    float* out = nullptr;  // [columns], of the next row `out_stride` further; nullptr: of no interest
    size_t out_stride = 0;
};

struct Kernels {
    const char* isa;

    // Codes and groups of m rows of k activations.
    void (*quantize)(const float* x, size_t stride_x, uint32_t m, uint32_t k, int8_t* codes,
                     ActivationGroup* groups);
    // Rows of tiles [tile_begin, tile_end) of w times every row of x. `scratch`: matmul_scratch_bytes(), one
    // per thread.
    void (*matmul)(const Matrix& w, const Activations& x, const Store& store, uint32_t tile_begin,
                   uint32_t tile_end, std::byte* scratch);
    void (*attend_query)(KvType type, const float* q, uint32_t n, uint32_t head_dim, std::byte* prepared);
    void (*attend)(const AttendArgs& args);

    // From here on nothing multiplies codes: an instruction set that extends another has its kernels.

    // Row `row` of w, times scale.
    void (*dequantize_row)(const Matrix& w, uint32_t row, float scale, float* out) = nullptr;

    void (*rms_norm)(const float* x, const float* weight, uint32_t n, float eps, float* out) = nullptr;
    void (*layer_norm)(const float* x, const float* weight, const float* bias, uint32_t n, float eps,
                       float* out) = nullptr;  // bias may be nullptr
    // Rotates the first `dim` numbers of each head, halves together: cos and sin have dim / 2 entries.
    void (*rope)(float* heads, uint32_t n_heads, uint32_t head_dim, uint32_t dim, const float* cos,
                 const float* sin) = nullptr;
    // out = f(gate) · up, or f(gate) when up is nullptr. In place allowed. Not xielu, which has parameters;
    // swiglu_oai (gpt-oss) bounds both and adds 1 to up, which it must have.
    void (*activate)(Activation f, const float* gate, const float* up, float* out, size_t n) = nullptr;
    void (*add)(float* x, const float* y, float scale, size_t n) = nullptr;  // x += scale · y
    void (*softcap)(float* x, float cap, size_t n) = nullptr;                // x = cap · tanh(x / cap)
    float (*max)(const float* x, size_t n) = nullptr;
    // out[i] = exp(x[i] - max), returning their sum. In place allowed.
    float (*exp_sum)(const float* x, float max, float* out, size_t n) = nullptr;

    // Writes one position's k and v (float32 [head_dim], k rotated) into a slot; k alone where it is both.
    void (*kv_store)(const KvHead& kv, uint32_t slot, const float* k, const float* v) = nullptr;
    // Reads a slot back as float32 (for tests, saving and forking).
    void (*kv_load)(const KvHead& kv, uint32_t slot, float* k, float* v) = nullptr;
    // a joins b into a, n queries.
    void (*attend_merge)(const AttendState& a, const AttendState& b, uint32_t n, uint32_t head_dim) = nullptr;
    // out = acc / sum, zeros where sum = 0. (int4 caches hold rotated vectors; this turns the result back.)
    void (*attend_finish)(KvType type, const AttendState& state, uint32_t n, uint32_t head_dim,
                          float* out) = nullptr;

    void (*scan)(const ScanArgs& args) = nullptr;
};

// What matmul expands at once (groups of tiles), and how many rows it multiplies by that.
inline constexpr size_t kPanelTileGroups = 32, kMaxPanelTiles = 2, kPanelRows = 256;
size_t matmul_scratch_bytes();
// Bytes of `n_slots` positions of one head: the same for every instruction set, a multiple of 64.
size_t kv_k_bytes(KvType type, uint32_t head_dim, uint32_t n_slots);
size_t kv_v_bytes(KvType type, uint32_t head_dim, uint32_t n_slots);
size_t attend_query_bytes(KvType type, uint32_t head_dim);  // 0 for f32 and f16, which need no attend_query
// How many queries take their shares of the values at once, at most.
inline constexpr uint32_t kMaxWeighedQueries = 8;
size_t attend_scratch_bytes(uint32_t n_queries, uint32_t head_dim);

// The table for `isa` ("avx2", …), or the best this processor runs when nullptr; nullptr when it is not built
// or cannot run here.
const Kernels* find_kernels(const char* isa);
// Every table of this build that this processor runs, best first.
size_t list_kernels(const Kernels** out, size_t capacity);

}  // namespace edgekit
