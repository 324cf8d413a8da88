// How close the kernels come to the machine: the peak of the dot-product units (or of float fma), the read
// bandwidth of memory, and each kernel as a fraction of them. Everything is timed in slices of a millisecond
// or less, streams in turns with plain reading, and the best (in cache) or the median (streaming) is taken,
// so that other work on the machine spoils little.
//
//   kernels_bench [isa]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/kernels.h"
#include "machine.h"
#include "quant/layouts.h"

using namespace edgekit;
using machine::best;
using machine::seconds;

namespace {

struct Rates {
    double kernel = 0, read = 0;  // bytes per second
};

// How fast f(thread, first piece, last piece) goes through `count` pieces of piece_bytes that lie one after
// the other, and how fast they are read: the medians of every thread's short stretches of both in turns,
// summed over the threads.
template <class F>
Rates stream_rates(int threads, const std::byte* pieces, uint32_t count, size_t piece_bytes, F&& f) {
    const uint32_t step = uint32_t((size_t{1} << 20) / piece_bytes) + 1;
    std::vector<Rates> rates(threads);
    const auto run = [&](int part) {
        std::vector<double> kernel, read;
        const auto time = [&](std::vector<double>& samples, auto&& work) {
            const double start = seconds();
            work();
            samples.push_back(double(step) * piece_bytes / (seconds() - start));
        };
        const auto median = [](std::vector<double>& samples) {
            const auto middle = samples.begin() + samples.size() / 2;
            std::nth_element(samples.begin(), middle, samples.end());
            return *middle;
        };
        const uint32_t begin = uint32_t(uint64_t{count} * part / threads),
                       end = uint32_t(uint64_t{count} * (part + 1) / threads);
        for (int round = 0; round < 3; ++round)
            for (uint32_t i = begin; i + 2 * step <= end; i += 2 * step) {
                time(kernel, [&] { f(part, i, i + step); });
                time(read, [&] {
                    machine::read_slice<4>(pieces + (i + step) * piece_bytes, step * piece_bytes / 256 * 256,
                                           1536);
                });
            }
        rates[part] = {median(kernel), median(read)};
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(run, i);
    run(0);
    Rates total;
    for (std::thread& thread : others) thread.join();
    for (const Rates& one : rates) total.kernel += one.kernel, total.read += one.read;
    return total;
}

std::byte* allocate(size_t bytes) {
    auto* p = static_cast<std::byte*>(std::aligned_alloc(64, round_up64(bytes)));
    uint32_t state = 1;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        state = state * 1664525 + 1013904223;
        const uint32_t word = (state & 0x3F3F3F3F) | 0x30003000;  // finite and normal as any float
        std::memcpy(p + i, &word, 4);
    }
    return p;
}

struct Rows {
    float* x;
    int8_t* codes;
    ActivationGroup* groups;
    Activations activations(uint32_t k, uint32_t m) const { return {x, k, codes, groups, m}; }
};

Rows make_rows(const Kernels& kernels, uint32_t m, uint32_t k) {
    const size_t groups = size_t{m} * row_groups(k);
    Rows rows{reinterpret_cast<float*>(allocate(size_t{4} * m * k)),
              reinterpret_cast<int8_t*>(allocate(kGroup * groups)),
              reinterpret_cast<ActivationGroup*>(allocate(sizeof(ActivationGroup) * groups))};
    kernels.quantize(rows.x, k, m, k, rows.codes, rows.groups);
    return rows;
}

constexpr Layout kMeasured[] = {Layout::q4_block32, Layout::q3_block32,  Layout::q5_block32,
                                Layout::q6_block32, Layout::q4_affine32, Layout::q8_block32,
                                Layout::f16};

constexpr size_t kBuffer = size_t{576} << 20;

void bench(const Kernels& kernels, const std::byte* buffer, double hz) {
    std::printf("\n%s\n", kernels.isa);
    const uint32_t k = 2048, max_m = 512;
    const Rows rows = make_rows(kernels, max_m, k);
    float* out[2] = {reinterpret_cast<float*>(allocate(size_t{4} << 18)),
                     reinterpret_cast<float*>(allocate(size_t{4} << 18))};
    std::byte* scratch[2] = {allocate(matmul_scratch_bytes()), allocate(matmul_scratch_bytes())};

    for (const Layout layout : kMeasured) {
        const LayoutInfo& info = layout_info(layout);
        for (uint32_t width : {896u, 2048u, 8192u}) {
            const size_t bytes = info.tile_bytes(width);
            const Rows row = make_rows(kernels, 1, width);
            for (int threads = 1; threads <= 2; ++threads) {
                const Rates rates = stream_rates(
                    threads, buffer, uint32_t(kBuffer / bytes), bytes,
                    [&](int part, uint32_t first, uint32_t last) {
                        const Matrix w{buffer + first * bytes, layout, (last - first) * 16, width, bytes};
                        kernels.matmul(w, row.activations(width, 1), {out[part], w.n}, 0, last - first,
                                       scratch[part]);
                    });
                std::printf(
                    "  %-11s 1 row of %u, streamed, %d thread%s %6.2f GB/s  %5.2f B/cycle  %3.0f%% of read\n",
                    info.name, width, threads, threads == 1 ? ": " : "s:", rates.kernel / 1e9,
                    rates.kernel / hz, 100 * rates.kernel / rates.read);
            }
        }
        const size_t bytes = info.tile_bytes(k);
        const Matrix w{buffer, layout, uint32_t(kBuffer / bytes) * 16, k, bytes};
        for (uint32_t m : {1u, 2u, 4u, 8u, 13u, 64u, 512u}) {
            const uint32_t some = 16;  // tiles: in cache
            const int repeats = m < 64 ? 16 : 1;
            const double took = best(m < 64 ? 200 : 60, [&] {
                for (int i = 0; i < repeats; ++i)
                    kernels.matmul(w, rows.activations(k, m), {out[0], 16 * some, nullptr, 1.0f, false}, 0,
                                   some, scratch[0]);
            });
            const double macs = double(m) * k * 16 * some * repeats / took;
            std::printf("  %-11s %3u rows, in cache:        %6.1f MAC/cycle  %6.1f GMAC/s\n", info.name, m,
                        macs / hz, macs / 1e9);
        }
    }

    const KvType types[] = {KvType::f16, KvType::int8, KvType::int4};
    const char* const names[] = {"f16", "int8", "int4"};
    const uint32_t head_dim = 64, heads = 8, slots = 4096;
    for (int t = 0; t < 3; ++t) {
        const size_t k_bytes = kv_k_bytes(types[t], head_dim, slots),
                     v_bytes = kv_v_bytes(types[t], head_dim, slots);
        std::byte* cache = allocate((k_bytes + v_bytes) * heads);
        const auto head = [&](uint32_t h) {
            return KvHead{cache + h * (k_bytes + v_bytes), cache + h * (k_bytes + v_bytes) + k_bytes,
                          types[t], head_dim};
        };
        const double stored = best(5, [&] {
            for (uint32_t h = 0; h < heads; ++h)
                for (uint32_t s = 0; s < slots; ++s)
                    kernels.kv_store(head(h), s, rows.x + 64 * (s + h), rows.x + 64 * s);
        });
        std::printf("  kv %-4s store: %5.2f ns/element\n", names[t],
                    stored * 1e9 / heads / slots / head_dim / 2);
        for (uint32_t n : {1u, 4u, 8u, 256u}) {
            std::vector<uint32_t> begin(n, 0), end(n, slots);
            std::vector<float> max(n), sum(n);
            auto* acc = reinterpret_cast<float*>(allocate(size_t{4} * n * head_dim));
            auto* prepared = allocate(n * attend_query_bytes(types[t], head_dim) + 64);
            auto* space = allocate(attend_scratch_bytes(n, head_dim));
            const uint32_t used = 1;
            const double took = best(30, [&] {
                for (uint32_t h = 0; h < used; ++h) {
                    for (uint32_t i = 0; i < n; ++i) max[i] = -__builtin_inff(), sum[i] = 0;
                    std::memset(acc, 0, size_t{4} * n * head_dim);
                    kernels.attend_query(types[t], rows.x, n, head_dim, prepared);
                    kernels.attend({head(h),
                                    rows.x,
                                    prepared,
                                    n,
                                    begin.data(),
                                    end.data(),
                                    0.0f,
                                    {max.data(), sum.data(), acc},
                                    space});
                }
            });
            const double read = double(k_bytes + v_bytes) * used, macs = 2.0 * n * head_dim * slots * used;
            std::printf("  kv %-4s attend, %3u queries: %6.2f GB/s  %5.2f B/cycle  %5.1f MAC/cycle\n",
                        names[t], n, read / took / 1e9, read / took / hz, macs / took / hz);
            std::free(acc), std::free(prepared), std::free(space);
        }
        std::free(cache);
    }
    const double norm = best(200, [&] { kernels.rms_norm(rows.x, rows.x + k, k, 1e-5f, out[0]); });
    const double quantize = best(200, [&] { kernels.quantize(rows.x, k, 1, k, rows.codes, rows.groups); });
    const double silu = best(200, [&] { kernels.activate(Activation::silu, rows.x, rows.x + k, out[0], k); });
    const double exponential = best(200, [&] { kernels.exp_sum(rows.x, 0.0f, out[0], k); });
    std::printf("  cycles/element: rms_norm %.2f  quantize %.2f  silu·up %.2f  exp %.2f\n", norm * hz / k,
                quantize * hz / k, silu * hz / k, exponential * hz / k);
}

}  // namespace

int main(int argc, char** argv) {
    const Kernels* tables[16];
    const size_t count = list_kernels(tables, 16);
    const double hz = machine::clock_hz();
    std::byte* buffer = allocate(kBuffer);
    std::printf("clock %.2f GHz, read %.2f GB/s with 1 thread, %.2f with 2\n", hz / 1e9,
                machine::read_bytes_s(1) / 1e9, machine::read_bytes_s(2) / 1e9);
    if (const auto peak = machine::dot_peak(1); peak.instruction)
        std::printf("%s peak %.1f MAC/cycle, %.1f GMAC/s\n", peak.instruction, peak.macs_s / hz,
                    peak.macs_s / 1e9);
    for (size_t i = 0; i < count; ++i)
        if (argc < 2 || std::strcmp(argv[1], tables[i]->isa) == 0) bench(*tables[i], buffer, hz);
    return 0;
}
