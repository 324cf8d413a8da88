// How close the kernels come to the machine: the peak of the dot-product units (or of float fma), the read
// bandwidth of memory, and each kernel as a fraction of them. Everything is timed in slices of a millisecond
// or less, and the best (in cache) or the median (streaming) is taken, so that other work on the machine
// spoils little.
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
#include "quant/dense.h"
#include "quant/q4_block32.h"
#include "quant/q8_block32.h"

using namespace edgekit;
using machine::best;
using machine::seconds;

namespace {

// Bytes per second of f(first piece, last piece) over the pieces of [0, count), each piece_bytes: the median
// of every thread's short stretches, summed over the threads.
template <class F>
double stream_rate(int threads, uint32_t count, size_t piece_bytes, F&& f) {
    const uint32_t step = uint32_t((size_t{1} << 20) / piece_bytes) + 1;
    std::vector<double> rates(threads);
    const auto run = [&](int part) {
        std::vector<double> samples;
        const uint32_t begin = uint32_t(uint64_t{count} * part / threads),
                       end = uint32_t(uint64_t{count} * (part + 1) / threads);
        for (int round = 0; round < 3; ++round)
            for (uint32_t i = begin; i + step <= end; i += step) {
                const double start = seconds();
                f(part, i, i + step);
                samples.push_back(double(step) * piece_bytes / (seconds() - start));
            }
        std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
        rates[part] = samples[samples.size() / 2];
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(run, i);
    run(0);
    double total = 0;
    for (std::thread& thread : others) thread.join();
    for (double rate : rates) total += rate;
    return total;
}

std::byte* allocate(size_t bytes) {
    auto* p = static_cast<std::byte*>(std::aligned_alloc(64, round_up64(bytes)));
    uint32_t state = 1;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        state = state * 1664525 + 1013904223;
        const uint32_t word = state & 0x3F3F3F3F;  // finite as any float
        std::memcpy(p + i, &word, 4);
    }
    return p;
}

struct Rows {
    float* x;
    int8_t* codes;
    float* scales;
    int32_t* starts;
    Activations activations(uint32_t k, uint32_t m) const { return {x, k, codes, scales, starts, m}; }
};

Rows make_rows(const Kernels& kernels, uint32_t m, uint32_t k) {
    Rows rows{reinterpret_cast<float*>(allocate(size_t{4} * m * k)),
              reinterpret_cast<int8_t*>(allocate(size_t{m} * k)),
              reinterpret_cast<float*>(allocate(size_t{m} * k / 8)),
              reinterpret_cast<int32_t*>(allocate(size_t{m} * k / 4))};
    kernels.quantize(rows.x, k, m, k, rows.codes, rows.scales, rows.starts);
    return rows;
}

size_t tile_bytes(Layout layout, uint32_t k) {
    if (layout == Layout::q4_block32) return q4_block32::tile_bytes(k);
    if (layout == Layout::q8_block32) return q8_block32::tile_bytes(k);
    return dense::tile_bytes(layout, k);
}

const struct {
    Layout layout;
    const char* name;
} kLayouts[] = {{Layout::q4_block32, "q4"}, {Layout::q8_block32, "q8"}, {Layout::f16, "f16"}};

constexpr size_t kBuffer = size_t{576} << 20;

void bench(const Kernels& kernels, const std::byte* buffer, double hz, const double (&bandwidth)[2]) {
    std::printf("\n%s\n", kernels.isa);
    const uint32_t k = 2048, max_m = 512;
    const Rows rows = make_rows(kernels, max_m, k);
    auto* out = reinterpret_cast<float*>(allocate(size_t{4} * (1u << 20)));
    std::byte* scratch[2] = {allocate(matmul_scratch_bytes()), allocate(matmul_scratch_bytes())};

    for (const auto& [layout, name] : kLayouts) {
        const size_t bytes = tile_bytes(layout, k);
        const uint32_t tiles = uint32_t(kBuffer / bytes);
        const Matrix w{buffer, layout, tiles * 16, k, bytes};
        for (int threads = 1; threads <= 2; ++threads) {
            const double rate =
                stream_rate(threads, tiles, bytes, [&](int part, uint32_t first, uint32_t last) {
                    kernels.matmul(w, rows.activations(k, 1), {out, w.n, nullptr, 1.0f, false}, first, last,
                                   scratch[part]);
                });
            std::printf("  %-4s 1 row, streamed, %d thread%s %6.2f GB/s  %5.2f B/cycle  %3.0f%% of read\n",
                        name, threads, threads == 1 ? ": " : "s:", rate / 1e9, rate / hz,
                        100 * rate / bandwidth[threads - 1]);
        }
        for (uint32_t m : {1u, 2u, 4u, 8u, 13u, 64u, 512u}) {
            const uint32_t some = 16;  // tiles: in cache
            const int repeats = m < 64 ? 16 : 1;
            const double took = best(m < 64 ? 200 : 60, [&] {
                for (int i = 0; i < repeats; ++i)
                    kernels.matmul(w, rows.activations(k, m), {out, 16 * some, nullptr, 1.0f, false}, 0, some,
                                   scratch[0]);
            });
            const double macs = double(m) * k * 16 * some * repeats / took;
            std::printf("  %-4s %3u rows, in cache:        %6.1f MAC/cycle  %6.1f GMAC/s\n", name, m,
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
    const double norm = best(200, [&] { kernels.rms_norm(rows.x, rows.x + k, k, 1e-5f, out); });
    const double quantize =
        best(200, [&] { kernels.quantize(rows.x, k, 1, k, rows.codes, rows.scales, rows.starts); });
    const double silu = best(200, [&] { kernels.activate(Activation::silu, rows.x, rows.x + k, out, k); });
    const double exponential = best(200, [&] { kernels.exp_sum(rows.x, 0.0f, out, k); });
    std::printf("  cycles/element: rms_norm %.2f  quantize %.2f  silu·up %.2f  exp %.2f\n", norm * hz / k,
                quantize * hz / k, silu * hz / k, exponential * hz / k);
}

}  // namespace

int main(int argc, char** argv) {
    const Kernels* tables[16];
    const size_t count = list_kernels(tables, 16);
    const double hz = machine::clock_hz();
    std::byte* buffer = allocate(kBuffer);
    const double bandwidth[2] = {machine::read_bytes_s(1), machine::read_bytes_s(2)};
    std::printf("clock %.2f GHz, read %.2f GB/s with 1 thread, %.2f with 2\n", hz / 1e9, bandwidth[0] / 1e9,
                bandwidth[1] / 1e9);
    if (const auto peak = machine::dot_peak(1); peak.instruction)
        std::printf("%s peak %.1f MAC/cycle, %.1f GMAC/s\n", peak.instruction, peak.macs_s / hz,
                    peak.macs_s / 1e9);
    for (size_t i = 0; i < count; ++i)
        if (argc < 2 || std::strcmp(argv[1], tables[i]->isa) == 0) bench(*tables[i], buffer, hz, bandwidth);
    return 0;
}
