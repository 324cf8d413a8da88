// What the machine can do, measured beside a benchmark: its clock, how fast threads read memory, and the peak
// of its dot-product unit. Everything is timed in slices of a millisecond or less, and the best slice (in
// registers) or the median one (memory) counts, so that other work on the machine spoils little.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace edgekit::machine {

inline double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The shortest of `slices` calls of f, in seconds.
template <class F>
double best(int slices, F&& f) {
    double least = 1e9;
    for (int i = 0; i < slices; ++i) {
        const double start = seconds();
        f();
        least = std::min(least, seconds() - start);
    }
    return least;
}

// The sum over `threads` threads, running at the same time, of f(index of the thread).
template <class F>
double on_threads(unsigned threads, F&& f) {
    std::vector<double> results(threads);
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back([&, i] { results[i] = f(i); });
    results[0] = f(0);
    for (std::thread& thread : others) thread.join();
    double sum = 0;
    for (double result : results) sum += result;
    return sum;
}

// Cycles per second: dependent additions take one cycle each. Sixteen a turn, or the loop's own branch would
// be what is measured.
inline double clock_hz() {
    constexpr uint64_t turns = 30'000;
    return 16.0 * turns / best(300, [] {
               uint64_t x = 0;
               for (uint64_t i = 0; i < turns; ++i) {
#pragma GCC unroll 16
                   for (int step = 0; step < 16; ++step) {
                       x += i;
                       __asm__ volatile("" : "+r"(x));
                   }
               }
           });
}

// XOR of `slice` bytes read as S streams side by side, each fetched `ahead` bytes ahead into the second-level
// cache.
template <int S>
inline void read_slice(const std::byte* from, size_t slice, size_t ahead) {
    typedef uint64_t Line __attribute__((vector_size(64)));
    Line sum{};
    const size_t share = slice / S;
    for (size_t i = 0; i < share; i += sizeof(Line))
        for (int stream = 0; stream < S; ++stream) {
            const std::byte* at = from + stream * share + i;
            __builtin_prefetch(at + ahead, 0, 2);
            sum ^= *reinterpret_cast<const Line*>(at);
        }
    __asm__ volatile("" ::"m"(sum));
}

// Bytes per second that `threads` threads read together, from memory that no cache holds: the better of one
// stream a thread, which the processor's own prefetcher runs ahead of, and of four, which hide more latency.
inline double read_bytes_s(unsigned threads) {
    constexpr size_t slice = size_t{1} << 20;
    const size_t share = (size_t{512} << 20) / threads / slice * slice;
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    std::vector<std::unique_ptr<void, Free>> memory(threads);
    on_threads(threads, [&](unsigned thread) {
        memory[thread].reset(std::aligned_alloc(64, share));
        if (memory[thread]) std::memset(memory[thread].get(), static_cast<int>(thread) + 1, share);
        return 0.0;
    });
    const auto rate = [&](auto&& read) {
        return on_threads(threads, [&](unsigned thread) {
            const auto* from = static_cast<const std::byte*>(memory[thread].get());
            if (!from) return 0.0;
            std::vector<double> rates;
            for (int round = 0; round < 3; ++round)
                for (size_t first = 0; first < share; first += slice) {
                    const double start = seconds();
                    read(from + first);
                    rates.push_back(slice / (seconds() - start));
                }
            std::nth_element(rates.begin(), rates.begin() + rates.size() / 2, rates.end());
            return rates[rates.size() / 2];
        });
    };
    return std::max(rate([](const std::byte* from) { read_slice<1>(from, slice, 512); }),
                    rate([](const std::byte* from) { read_slice<4>(from, slice, 1536); }));
}

struct DotPeak {
    const char* instruction;  // NULL: this processor has none that is known here
    double macs_s;            // 8-bit multiply-accumulates per second, all threads together
};

// The 8-bit dot-product instruction this processor multiplies fastest with, from registers.
inline DotPeak dot_peak(unsigned threads) {
    constexpr int steps = 10'000, slices = 100;
    [[maybe_unused]] const auto peak = [&](double macs, auto&& loop) {
        return on_threads(threads, [&](unsigned) { return macs * steps / best(slices, loop); });
    };
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512vnni"))
        return {"vpdpbusd zmm", peak(12 * 64, [] {
                    __asm__ volatile(
                        "mov %0, %%ecx\n"
                        "1: vpdpbusd %%zmm16, %%zmm16, %%zmm0\n vpdpbusd %%zmm16, %%zmm16, %%zmm1\n"
                        "vpdpbusd %%zmm16, %%zmm16, %%zmm2\n vpdpbusd %%zmm16, %%zmm16, %%zmm3\n"
                        "vpdpbusd %%zmm16, %%zmm16, %%zmm4\n vpdpbusd %%zmm16, %%zmm16, %%zmm5\n"
                        "vpdpbusd %%zmm16, %%zmm16, %%zmm6\n vpdpbusd %%zmm16, %%zmm16, %%zmm7\n"
                        "vpdpbusd %%zmm16, %%zmm16, %%zmm8\n vpdpbusd %%zmm16, %%zmm16, %%zmm9\n"
                        "vpdpbusd %%zmm16, %%zmm16, %%zmm10\n vpdpbusd %%zmm16, %%zmm16, %%zmm11\n"
                        "dec %%ecx\n jnz 1b\n vzeroupper" ::"i"(steps)
                        : "ecx", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                          "xmm9", "xmm10", "xmm11");
                })};
    if (__builtin_cpu_supports("avx2"))  // products of pairs, added in 16 bits
        return {"vpmaddubsw ymm", peak(6 * 32, [] {
                    __asm__ volatile(
                        "mov %0, %%ecx\n"
                        "1: vpmaddubsw %%ymm12, %%ymm12, %%ymm6\n vpmaddubsw %%ymm12, %%ymm12, %%ymm7\n"
                        "vpmaddubsw %%ymm12, %%ymm12, %%ymm8\n vpmaddubsw %%ymm12, %%ymm12, %%ymm9\n"
                        "vpmaddubsw %%ymm12, %%ymm12, %%ymm10\n vpmaddubsw %%ymm12, %%ymm12, %%ymm11\n"
                        "vpaddw %%ymm6, %%ymm0, %%ymm0\n vpaddw %%ymm7, %%ymm1, %%ymm1\n"
                        "vpaddw %%ymm8, %%ymm2, %%ymm2\n vpaddw %%ymm9, %%ymm3, %%ymm3\n"
                        "vpaddw %%ymm10, %%ymm4, %%ymm4\n vpaddw %%ymm11, %%ymm5, %%ymm5\n"
                        "dec %%ecx\n jnz 1b\n vzeroupper" ::"i"(steps)
                        : "ecx", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                          "xmm9", "xmm10", "xmm11", "xmm12");
                })};
#elif defined(__aarch64__)
#if defined(__linux__)
    const bool has_dot = getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#else
    const bool has_dot = true;  // every Apple processor that runs 64-bit code of this decade
#endif
    if (has_dot)
        return {"sdot", peak(12 * 16, [] {
                    __asm__ volatile(
                        ".arch armv8.2-a+dotprod\n mov w9, %w0\n"
                        "1: sdot v0.4s, v16.16b, v16.16b\n sdot v1.4s, v16.16b, v16.16b\n sdot v2.4s, "
                        "v16.16b, v16.16b\n"
                        "sdot v3.4s, v16.16b, v16.16b\n sdot v4.4s, v16.16b, v16.16b\n sdot v5.4s, v16.16b, "
                        "v16.16b\n"
                        "sdot v6.4s, v16.16b, v16.16b\n sdot v7.4s, v16.16b, v16.16b\n sdot v17.4s, v16.16b, "
                        "v16.16b\n"
                        "sdot v18.4s, v16.16b, v16.16b\n sdot v19.4s, v16.16b, v16.16b\n sdot v20.4s, "
                        "v16.16b, v16.16b\n"
                        "subs w9, w9, #1\n b.ne 1b" ::"r"(steps)
                        : "w9", "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v17", "v18", "v19",
                          "v20");
                })};
#endif
    return {nullptr, 0};
}

}  // namespace edgekit::machine
