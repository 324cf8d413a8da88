// Which instruction sets this build has (EDGEKIT_HAVE_<ISA>, set by the build) and which of them this
// processor runs.

#include <cstring>
#include <vector>

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace edgekit {

#define EDGEKIT_TABLE(isa)      \
    namespace isa {             \
    extern const Kernels table; \
    }
EDGEKIT_TABLE(scalar)
EDGEKIT_TABLE(avx2)
EDGEKIT_TABLE(avxvnni)
EDGEKIT_TABLE(avxvnni_emulated)
EDGEKIT_TABLE(avx512vnni)
EDGEKIT_TABLE(neon)
EDGEKIT_TABLE(neon_dotprod)
EDGEKIT_TABLE(neon_i8mm)
EDGEKIT_TABLE(wasm_simd)
EDGEKIT_TABLE(wasm_relaxed)

namespace {

[[maybe_unused]] bool always() { return true; }

#if defined(__x86_64__)
[[maybe_unused]] bool has_avx2() {
    return __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma");  // F16C is older; clang 17 cannot ask
}
[[maybe_unused]] bool has_avxvnni() {  // what compilers' own question came late to
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & (1u << 4);
}
[[maybe_unused]] bool has_avx512vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
}
#elif defined(__aarch64__) && defined(__linux__)
[[maybe_unused]] bool has_dotprod() { return getauxval(AT_HWCAP) & (1ul << 20); }  // HWCAP_ASIMDDP
[[maybe_unused]] bool has_i8mm() {
    return has_dotprod() && getauxval(AT_HWCAP2) & (1ul << 13);
}  // HWCAP2_I8MM
#elif defined(__aarch64__) && defined(__APPLE__)
bool has_feature(const char* name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
[[maybe_unused]] bool has_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
[[maybe_unused]] bool has_i8mm() { return has_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#endif

struct Candidate {
    const Kernels* table;
    bool (*runs_here)();
    const Kernels* extended = nullptr;  // where the table has products alone: whose kernels the others are
};

// Best first.
constexpr Candidate kCandidates[] = {
#ifdef EDGEKIT_HAVE_AVX512VNNI
    {&avx512vnni::table, has_avx512vnni},
#endif
#ifdef EDGEKIT_HAVE_AVXVNNI
    {&avxvnni::table, has_avxvnni},
#endif
#ifdef EDGEKIT_HAVE_AVX2
    {&avx2::table, has_avx2},
#endif
#ifdef EDGEKIT_HAVE_NEON_I8MM
    {&neon_i8mm::table, has_i8mm, &neon::table},
#endif
#ifdef EDGEKIT_HAVE_NEON_DOTPROD
    {&neon_dotprod::table, has_dotprod, &neon::table},
#endif
#ifdef EDGEKIT_HAVE_NEON
    {&neon::table, always},
#endif
#ifdef EDGEKIT_HAVE_WASM_RELAXED
    {&wasm_relaxed::table, always},
#endif
#ifdef EDGEKIT_HAVE_WASM_SIMD
    {&wasm_simd::table, always},
#endif
#ifdef EDGEKIT_HAVE_SCALAR
    {&scalar::table, always},
#endif
#ifdef EDGEKIT_HAVE_AVXVNNI_EMULATED
    {&avxvnni_emulated::table, has_avx2},
#endif
};

Kernels whole(const Candidate& candidate) {
    const Kernels& table = *candidate.table;
    if (!candidate.extended) return table;
    Kernels kernels = *candidate.extended;
    kernels.isa = table.isa;
    kernels.quantize = table.quantize;
    kernels.matmul = table.matmul;
    kernels.attend_query = table.attend_query;
    kernels.attend = table.attend;
    return kernels;
}

// Those that this processor runs, best first.
const std::vector<Kernels>& kernels_here() {
    static const std::vector<Kernels> here = [] {
        std::vector<Kernels> found;
        for (const Candidate& candidate : kCandidates)
            if (candidate.runs_here()) found.push_back(whole(candidate));
        return found;
    }();
    return here;
}

}  // namespace

size_t list_kernels(const Kernels** out, size_t capacity) {
    size_t n = 0;
    for (const Kernels& kernels : kernels_here())
        if (n < capacity) out[n++] = &kernels;
    return n;
}

const Kernels* find_kernels(const char* isa) {
    for (const Kernels& kernels : kernels_here())
        if (!isa || std::strcmp(isa, kernels.isa) == 0) return &kernels;
    return nullptr;
}

// A panel of expanded weights (codes and float scales), and the sums of its rows.
size_t matmul_scratch_bytes() {
    return kPanelTileGroups * kPanelGroupBytes + kMaxPanelTiles * kPanelRows * 16 * sizeof(float);
}

size_t kv_k_bytes(KvType type, uint32_t head_dim, uint32_t n_slots) {
    return kv::k_tile_bytes(type, head_dim) * (n_slots / 16);
}
size_t kv_v_bytes(KvType type, uint32_t head_dim, uint32_t n_slots) {
    return kv::v_tile_bytes(type, head_dim) * (n_slots / 16);
}
size_t attend_query_bytes(KvType type, uint32_t head_dim) { return kv::query_bytes(type, head_dim); }

// Scores and factors of every query, a block's values as floats, weights of a few queries, a panel of keys.
size_t attend_scratch_bytes(uint32_t n_queries, uint32_t head_dim) {
    const size_t floats = size_t{64} * n_queries + round_up(n_queries, 16) +
                          size_t{64} * round_up(head_dim, 16) +
                          size_t{64} * kMaxWeighedQueries * kv::n_groups(head_dim);
    return round_up64(4 * floats) + matmul_scratch_bytes();
}

}  // namespace edgekit
