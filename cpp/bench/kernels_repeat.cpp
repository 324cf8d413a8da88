// One kernel, a given number of times, for programs that count what it executes (tools/count_arm.py). Prints
// the multiply-accumulates and the bytes of packed weights, or of keys and values, of one time.
//
//   kernels_repeat ISA LAYOUT|attend ROWS TIMES

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/kernels.h"
#include "quant/layouts.h"

using namespace edgekit;

namespace {

constexpr uint32_t kColumns = 2048, kTiles = 16;  // of a matrix
constexpr uint32_t kHeadDim = 64, kSlots = 4096;  // of a head's cache, int8

template <class T>
T* zeros(size_t count) {
    void* p = std::aligned_alloc(64, round_up64(count * sizeof(T)));
    if (!p) std::abort();
    return static_cast<T*>(std::memset(p, 0, round_up64(count * sizeof(T))));
}

void matmul(const Kernels& kernels, const LayoutInfo& info, uint32_t m, int times) {
    const size_t tile_bytes = info.tile_bytes(kColumns);
    const Matrix w{zeros<std::byte>(tile_bytes * (kTiles + 1)), info.layout, 16 * kTiles, kColumns,
                   tile_bytes};
    const size_t groups = size_t{m} * row_groups(kColumns);
    const Activations x{zeros<float>(size_t{m} * kColumns), kColumns, zeros<int8_t>(kGroup * groups),
                        zeros<ActivationGroup>(groups), m};
    auto* out = zeros<float>(size_t{m} * w.n);
    auto* scratch = zeros<std::byte>(matmul_scratch_bytes());
    for (int i = 0; i < times; ++i) kernels.matmul(w, x, {out, w.n}, 0, kTiles, scratch);
    std::printf("%llu %llu\n", 1ULL * m * kColumns * w.n, 1ULL * kTiles * tile_bytes);
}

void attend(const Kernels& kernels, uint32_t n, int times) {
    const size_t k_bytes = kv_k_bytes(KvType::int8, kHeadDim, kSlots),
                 v_bytes = kv_v_bytes(KvType::int8, kHeadDim, kSlots);
    const KvHead head{zeros<std::byte>(k_bytes), zeros<std::byte>(v_bytes), KvType::int8, kHeadDim};
    const auto* q = zeros<float>(size_t{n} * kHeadDim);
    auto* prepared = zeros<std::byte>(n * attend_query_bytes(KvType::int8, kHeadDim));
    auto* scratch = zeros<std::byte>(attend_scratch_bytes(n, kHeadDim));
    const std::vector<uint32_t> begin(n, 0), end(n, kSlots);
    const AttendState state{zeros<float>(n), zeros<float>(n), zeros<float>(size_t{n} * kHeadDim)};
    kernels.attend_query(KvType::int8, q, n, kHeadDim, prepared);
    for (int i = 0; i < times; ++i)
        kernels.attend({head, q, prepared, n, begin.data(), end.data(), 0.0f, state, scratch});
    std::printf("%llu %llu\n", 2ULL * n * kHeadDim * kSlots, 1ULL * (k_bytes + v_bytes));
}

}  // namespace

int main(int argc, char** argv) {
    const Kernels* kernels = argc == 5 ? find_kernels(argv[1]) : nullptr;
    const uint32_t rows = argc == 5 ? uint32_t(std::strtoul(argv[3], nullptr, 10)) : 0;
    const char* call = argc == 5 ? argv[2] : "";
    const LayoutInfo* layout = nullptr;
    for (const LayoutInfo& info : kLayouts)
        if (!std::strcmp(call, info.name)) layout = &info;
    if (!kernels || rows == 0 || !(layout || !std::strcmp(call, "attend"))) {
        std::fprintf(stderr,
                     "usage: kernels_repeat ISA LAYOUT|attend ROWS TIMES; ISA: one this processor runs\n");
        return 2;
    }
    const auto times = static_cast<int>(std::strtol(argv[4], nullptr, 10));
    if (layout)
        matmul(*kernels, *layout, rows, times);
    else
        attend(*kernels, rows, times);
    return 0;
}
