// Every instruction set of this build that runs here, or the one that is named, against plain
// double-precision maths written from the layout headers. Prints what failed; the exit status counts
// failures.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "quant/layouts.h"

using namespace edgekit;

namespace {

int failures = 0;
int checks = 0;

// 64-byte aligned storage with the guard byte pattern of fresh memory.
template <class T>
class Aligned {
public:
    explicit Aligned(size_t n)
        : n_(n), data_(static_cast<T*>(std::aligned_alloc(64, round_up64(n * sizeof(T) + 64)))) {
        std::memset(static_cast<void*>(data_), 0, n * sizeof(T));
    }
    ~Aligned() { std::free(data_); }
    Aligned(const Aligned&) = delete;
    Aligned& operator=(const Aligned&) = delete;
    T* data() { return data_; }
    size_t size() const { return n_; }
    T& operator[](size_t i) { return data_[i]; }

private:
    size_t n_;
    T* data_;
};

uint64_t random_state = 1;
uint32_t random_bits() {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return uint32_t(random_state >> 32);
}
float uniform() { return float(random_bits()) / 4294967296.0f; }
float gaussian() { return std::sqrt(-2.0f * std::log(uniform() + 1e-9f)) * std::cos(6.2831853f * uniform()); }

void check(const char* isa, const std::string& what, double error, double bound) {
    ++checks;
    if (error <= bound) return;
    if (++failures < 40) std::printf("FAILED %s %s: error %g, bound %g\n", isa, what.c_str(), error, bound);
}

double half_value(uint16_t h) {
    const int exponent = (h >> 10) & 31;
    const double fraction = (h & 1023) / 1024.0;
    const double magnitude = exponent ? std::ldexp(1.0 + fraction, exponent - 15) : std::ldexp(fraction, -14);
    return h & 0x8000 ? -magnitude : magnitude;
}
double bf16_value(uint16_t h) {
    const uint32_t word = uint32_t(h) << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}
uint16_t random_bf16(float scale) {
    const float value = scale * (0.5f + uniform());
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return uint16_t(word >> 16);
}

const char* name(Layout layout) { return layout_info(layout).name; }

// What the code of row r, column c of a group stands for, before scales.
int level(Layout layout, const std::byte* group, uint32_t r, uint32_t c) {
    const auto bits = [&](size_t plane, uint32_t shift, int mask) {
        return int(group[plane + 4 * r + c % 4]) >> shift & mask;
    };
    const uint32_t line = c / 4, h = c / 16, j = line % 4;
    const auto nibble = [&] { return bits(64 * j, 4 * h, 15); };
    switch (layout) {
        case Layout::q8_block32:
            return int8_t(bits(64 * line, 0, 255));
        case Layout::q4_block32:
            return q4_block32::kLevels[nibble()];
        case Layout::q5_block32:
            return (nibble() | bits(256, line, 1) << 4) - 16;
        case Layout::q6_block32:
            return (nibble() | bits(256 + 64 * h, 2 * j, 3) << 4) - 32;
        case Layout::q3_block32:
            return q3_block32::kLevels[bits(64 * h, 2 * j, 3) | bits(128, line, 1) << 2];
        case Layout::q4_affine32:
            return nibble();
        default:
            std::abort();
    }
}

// A packed matrix of random bytes and what they mean.
struct RandomMatrix {
    Matrix matrix;
    Aligned<std::byte> bytes;
    std::vector<double> values;  // [n][k]

    RandomMatrix(Layout layout, uint32_t n, uint32_t k)
        : matrix{nullptr, layout, n, k, layout_info(layout).tile_bytes(k)},
          bytes(matrix.n_tiles() * matrix.tile_bytes),
          values(size_t(n) * k) {
        matrix.data = bytes.data();
        for (uint32_t tile = 0; tile < matrix.n_tiles(); ++tile) {
            std::byte* t = bytes.data() + tile * matrix.tile_bytes;
            for (uint32_t r = 0; r < 16; ++r) fill_row(t, r, tile * 16 + r);
        }
        if (layout_info(layout).quantized()) read();
    }

    void put(uint32_t row, uint32_t column, double value) {
        if (row < matrix.n) values[size_t(row) * matrix.k + column] = value;
    }

    void fill_row(std::byte* t, uint32_t r, uint32_t row) {
        const uint32_t k = matrix.k;
        auto* words = reinterpret_cast<uint16_t*>(t);
        auto* floats = reinterpret_cast<float*>(t);
        switch (matrix.layout) {
            case Layout::f32:
                for (uint32_t c = 0; c < k; ++c) put(row, c, floats[16 * c + r] = gaussian());
                break;
            case Layout::f16:
                for (uint32_t c = 0; c < k; ++c) {
                    const uint16_t h =
                        uint16_t(random_bits() & 0xBFFF);  // magnitudes below 2, subnormals too
                    words[16 * c + r] = h;
                    put(row, c, half_value(h));
                }
                break;
            case Layout::bf16:
                for (uint32_t c = 0; c < k; ++c) {
                    const uint16_t h = uint16_t(random_bf16(1.0f) | (random_bits() & 0x8000));
                    words[16 * c + r] = h;
                    put(row, c, bf16_value(h));
                }
                break;
            default:
                fill_quantized(t, r);
        }
    }

    // Scales of a plausible size, any codes, those past the last column too.
    void fill_quantized(std::byte* t, uint32_t r) {
        const LayoutInfo& info = layout_info(matrix.layout);
        const bool affine = matrix.layout == Layout::q4_affine32;
        const uint32_t groups = matrix.n_groups();
        auto* words = reinterpret_cast<uint16_t*>(t);
        if (info.row_bytes) reinterpret_cast<float*>(t)[r] = affine ? 0.5f : 0.001f * (0.5f + uniform());
        for (uint32_t g = 0; g < groups; ++g) {
            if (affine) {
                words[32 + 16 * g + r] = uint16_t(random_bits() % 0x2800);
                words[32 + 16 * (groups + g) + r] =
                    uint16_t(random_bits() % 0x3800 | (random_bits() & 0x8000));
            } else if (matrix.layout == Layout::q8_block32) {
                words[16 * g + r] = random_bf16(0.01f);
            } else {
                t[64 + 16 * g + r] = std::byte(int(random_bits() % 255) - 127);
            }
            std::byte* group = t + info.codes_offset(matrix.k) + g * info.code_bytes;
            for (uint32_t line = 0; line < info.code_bytes; line += 64)
                for (uint32_t at = line + 4 * r; at < line + 4 * r + 4; ++at) {
                    const uint32_t kind = random_bits() % 8;
                    const int byte = kind == 0 ? 0 : kind == 1 ? 255 : int(random_bits() % 256);
                    group[at] = std::byte(matrix.layout == Layout::q8_block32 && byte == 128 ? 127 : byte);
                }
        }
    }

    // What the bytes of a quantized matrix mean.
    void read() {
        const LayoutInfo& info = layout_info(matrix.layout);
        const bool affine = matrix.layout == Layout::q4_affine32;
        const uint32_t groups = matrix.n_groups();
        for (uint32_t row = 0; row < matrix.n; ++row) {
            const std::byte* t = matrix.tile(row / 16);
            const auto* words = reinterpret_cast<const uint16_t*>(t);
            const uint32_t r = row % 16;
            const double row_scale = info.row_bytes ? reinterpret_cast<const float*>(t)[r] : 1.0;
            for (uint32_t c = 0; c < matrix.k; ++c) {
                const uint32_t g = c / 32;
                const double scale = affine ? half_value(words[32 + 16 * g + r])
                                     : matrix.layout == Layout::q8_block32
                                         ? bf16_value(words[16 * g + r])
                                         : double(int8_t(t[64 + 16 * g + r]));
                const double minimum = affine ? half_value(words[32 + 16 * (groups + g) + r]) : 0.0;
                const std::byte* group = t + info.codes_offset(matrix.k) + g * info.code_bytes;
                put(row, c, row_scale * (scale * level(matrix.layout, group, r, c % 32) + minimum));
            }
        }
    }
};

// Quantized activations and what they mean.
struct Inputs {
    Aligned<float> x;
    Aligned<int8_t> codes;
    Aligned<ActivationGroup> groups;
    Activations activations;

    Inputs(const Kernels& kernels, uint32_t m, uint32_t k)
        : x(size_t(m) * (k + 3)), codes(size_t(m) * row_groups(k) * 32), groups(size_t(m) * row_groups(k)) {
        for (size_t i = 0; i < x.size(); ++i) x[i] = gaussian() * (i % 97 == 0 ? 20.0f : 1.0f);
        if (m > 2)
            for (uint32_t c = 0; c < k; ++c) x[size_t(k + 3) * 2 + c] = 0.0f;
        kernels.quantize(x.data(), k + 3, m, k, codes.data(), groups.data());
        activations = {x.data(), k + 3, codes.data(), groups.data(), m};
    }
};

void test_quantize(const Kernels& kernels) {
    for (uint32_t k : {1u, 8u, 31u, 33u, 64u, 172u, 2048u}) {
        const uint32_t m = 3, groups = round_up(k, 32) / 32, apart = row_groups(k);
        Inputs in(kernels, m, k);
        double wrong = 0;
        for (uint32_t r = 0; r < m; ++r)
            for (uint32_t g = 0; g < groups; ++g) {
                float peak = 0;
                for (uint32_t c = g * 32; c < k && c < g * 32 + 32; ++c)
                    peak = std::fmax(peak, std::fabs(in.x[r * (k + 3) + c]));
                const float inverse = peak > 0 ? 127.0f / peak : 0.0f;
                for (uint32_t c = 0; c < 32; ++c) {
                    const uint32_t column = g * 32 + c;
                    const int expected =
                        column < k ? int(std::nearbyint(in.x[r * (k + 3) + column] * inverse)) : 0;
                    const int8_t code = in.codes[(r * apart + g) * 32 + c];
                    wrong += code != expected;
                }
                int total = 0;
                for (uint32_t c = 0; c < 32; ++c) total += in.codes[(r * apart + g) * 32 + c];
                const ActivationGroup& group = in.groups[r * apart + g];
                wrong += group.scale != peak / 127.0f || group.sum != group.scale * float(total);
            }
        check(kernels.isa, "quantize k=" + std::to_string(k), wrong, 0);
    }
}

void test_matmul(const Kernels& kernels, Layout layout, uint32_t n, uint32_t k, uint32_t m) {
    const RandomMatrix w(layout, n, k);
    Inputs in(kernels, m, k);
    const uint32_t groups = row_groups(k), stride = n + 5;
    Aligned<float> out(size_t(m) * stride), bias(n), first(size_t(m) * stride);
    Aligned<std::byte> scratch(matmul_scratch_bytes());
    for (uint32_t i = 0; i < n; ++i) bias[i] = gaussian();
    const bool biased = k % 2 == 1, add = n % 2 == 1;
    const float scale = n > 16 ? 0.5f : 1.0f;
    for (size_t i = 0; i < out.size(); ++i) out[i] = first[i] = 7.0f;
    const Store store{out.data(), stride, biased ? bias.data() : nullptr, scale, add};
    const uint32_t half = w.matrix.n_tiles() / 2;
    kernels.matmul(w.matrix, in.activations, store, 0, half, scratch.data());
    kernels.matmul(w.matrix, in.activations, store, half, w.matrix.n_tiles(), scratch.data());
    double worst = 0, outside = 0;
    for (uint32_t r = 0; r < m; ++r) {
        for (uint32_t c = 0; c < n; ++c) {
            double sum = 0, magnitude = 1e-30;
            for (uint32_t i = 0; i < k; ++i) {
                const double x = layout_info(layout).quantized()
                                     ? double(in.groups[r * groups + i / 32].scale) *
                                           in.codes[(r * groups + i / 32) * 32 + i % 32]
                                     : in.x[r * (k + 3) + i];
                const double term = x * w.values[size_t(c) * k + i];
                sum += term;
                magnitude += std::fabs(term);
            }
            if (biased) sum += bias[c], magnitude += std::fabs(bias[c]);
            sum *= scale;
            if (add) sum += 7.0, magnitude += 7.0;
            worst = std::fmax(worst, std::fabs(sum - out[r * stride + c]) / magnitude);
        }
        for (uint32_t c = n; c < stride; ++c) outside += out[r * stride + c] != 7.0f;
    }
    const std::string what = std::string("matmul ") + name(layout) + " n=" + std::to_string(n) +
                             " k=" + std::to_string(k) + " m=" + std::to_string(m);
    check(kernels.isa, what, worst, 2e-6);
    check(kernels.isa, what + " outside", outside, 0);

    // A row's result does not depend on its neighbours.
    Activations last = in.activations;
    last.m = 1;
    last.x += size_t(m - 1) * (k + 3);
    last.codes += size_t(m - 1) * groups * 32;
    last.groups += size_t(m - 1) * groups;
    const Store alone{first.data(), stride, store.bias, scale, add};
    kernels.matmul(w.matrix, last, alone, 0, w.matrix.n_tiles(), scratch.data());
    check(kernels.isa, what + " row alone", std::memcmp(first.data(), &out[(m - 1) * stride], 4 * n) != 0, 0);
}

// The outermost levels and codes against the largest activations of one sign: sums in 16 bits must hold them.
void test_extremes(const Kernels& kernels, Layout layout, uint32_t m) {
    const uint32_t n = 16, k = 96;
    RandomMatrix w(layout, n, k);
    const LayoutInfo& info = layout_info(layout);
    const size_t begin = info.codes_offset(k);
    for (int sign : {-1, 1}) {
        const int code = layout == Layout::q8_block32 ? 127 * sign : sign < 0 ? 0x00 : 0xFF;
        std::memset(w.bytes.data() + begin, code, w.matrix.tile_bytes - begin);
        Inputs in(kernels, m, k);
        for (uint32_t r = 0; r < m; ++r)
            for (uint32_t c = 0; c < k; ++c) in.x[r * (k + 3) + c] = r % 2 ? -1.0f : 1.0f;
        kernels.quantize(in.x.data(), k + 3, m, k, in.codes.data(), in.groups.data());
        Aligned<float> out(size_t(m) * n);
        Aligned<std::byte> scratch(matmul_scratch_bytes());
        kernels.matmul(w.matrix, in.activations, {out.data(), n}, 0, 1, scratch.data());
        w.read();
        double worst = 0;
        for (uint32_t i = 0; i < n; ++i) {
            double sum = 0, magnitude = 1e-30;
            for (uint32_t c = 0; c < k; ++c) {
                sum += w.values[size_t(i) * k + c];
                magnitude += std::fabs(w.values[size_t(i) * k + c]);
            }
            for (uint32_t r = 0; r < m; ++r)
                worst =
                    std::fmax(worst, std::fabs(out[size_t(r) * n + i] - (r % 2 ? -sum : sum)) / magnitude);
        }
        check(kernels.isa,
              std::string("extremes of ") + name(layout) + " sign=" + std::to_string(sign) +
                  " m=" + std::to_string(m),
              worst, 2e-6);
    }
}

void test_dequantize_row(const Kernels& kernels, Layout layout, uint32_t n, uint32_t k) {
    const RandomMatrix w(layout, n, k);
    std::vector<float> out(k);
    double worst = 0;
    const double slack = layout == Layout::q4_affine32 ? 1.0 : 1e-30;  // a minimum cancels
    for (uint32_t row : {0u, n / 2, n - 1}) {
        kernels.dequantize_row(w.matrix, row, 1.5f, out.data());
        for (uint32_t c = 0; c < k; ++c) {
            const double expected = 1.5 * w.values[size_t(row) * k + c];
            worst = std::fmax(worst, std::fabs(out[c] - expected) / (std::fabs(expected) + slack));
        }
    }
    check(kernels.isa, std::string("dequantize_row ") + name(layout) + " k=" + std::to_string(k), worst,
          3e-7);
}

double gelu_exact(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }

void test_elementwise(const Kernels& kernels) {
    for (uint32_t n : {1u, 8u, 15u, 16u, 64u, 100u, 172u, 2048u}) {
        const std::string at = " n=" + std::to_string(n);
        Aligned<float> x(n), weight(n), bias(n), out(n);
        double squares = 0, mean = 0, variance = 0;
        for (uint32_t i = 0; i < n; ++i) {
            x[i] = gaussian() + 0.5f;
            weight[i] = gaussian();
            bias[i] = gaussian();
            squares += double(x[i]) * x[i];
            mean += x[i];
        }
        mean /= n;
        for (uint32_t i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean);
        double worst = 0, worst_layer = 0;
        kernels.rms_norm(x.data(), weight.data(), n, 1e-5f, out.data());
        for (uint32_t i = 0; i < n; ++i)
            worst = std::fmax(worst, std::fabs(out[i] - x[i] * weight[i] / std::sqrt(squares / n + 1e-5)));
        check(kernels.isa, "rms_norm" + at, worst, 3e-6);
        kernels.layer_norm(x.data(), weight.data(), bias.data(), n, 1e-5f, out.data());
        for (uint32_t i = 0; i < n; ++i)
            worst_layer = std::fmax(
                worst_layer,
                std::fabs(out[i] - ((x[i] - mean) * weight[i] / std::sqrt(variance / n + 1e-5) + bias[i])));
        check(kernels.isa, "layer_norm" + at, worst_layer, 6e-6);

        double (*const exact[])(double) = {
            [](double v) { return v / (1 + std::exp(-v)); }, gelu_exact,
            [](double v) {
                return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
            },
            [](double v) { return v > 0 ? v : 0.0; }, [](double v) { return v > 0 ? v * v : 0.0; }};
        for (int f = 0; f < 5; ++f) {
            for (uint32_t i = 0; i < n; ++i) x[i] = 3.0f * gaussian();
            kernels.activate(Activation(f), x.data(), weight.data(), out.data(), n);
            worst = 0;
            for (uint32_t i = 0; i < n; ++i) {
                const double expected = exact[f](x[i]) * weight[i];
                worst = std::fmax(worst, std::fabs(out[i] - expected) / (std::fabs(expected) + 1e-3));
            }
            check(kernels.isa, "activate " + std::to_string(f) + at, worst, 2e-6);
        }
        for (uint32_t i = 0; i < n; ++i) out[i] = x[i];
        kernels.add(out.data(), weight.data(), 0.25f, n);
        worst = 0;
        for (uint32_t i = 0; i < n; ++i)
            worst = std::fmax(worst, std::fabs(out[i] - (x[i] + 0.25 * weight[i])));
        check(kernels.isa, "add" + at, worst, 2e-6);

        for (uint32_t i = 0; i < n; ++i) x[i] = out[i] = 60.0f * gaussian();
        kernels.softcap(out.data(), 30.0f, n);
        worst = 0;
        for (uint32_t i = 0; i < n; ++i) {
            const double expected = 30.0 * std::tanh(x[i] / 30.0);
            worst = std::fmax(worst, std::fabs(out[i] - expected) / (std::fabs(expected) + 1e-3));
        }
        check(kernels.isa, "softcap" + at, worst, 6e-7);

        float peak = -INFINITY;
        for (uint32_t i = 0; i < n; ++i) peak = std::fmax(peak, x[i]);
        check(kernels.isa, "max" + at, kernels.max(x.data(), n) != peak, 0);
        if (n > 3) x[n / 2] = -INFINITY;
        const float total = kernels.exp_sum(x.data(), peak, out.data(), n);
        double sum = 0;
        worst = 0;
        for (uint32_t i = 0; i < n; ++i) {
            const double expected = std::exp(double(x[i] - peak));
            sum += expected;
            if (expected > 1e-37)
                worst = std::fmax(worst, std::fabs(out[i] - expected) / expected);
            else
                worst = std::fmax(worst, out[i]);
        }
        check(kernels.isa, "exp" + at, worst, 3e-7);
        check(kernels.isa, "exp_sum" + at, std::fabs(total - sum) / sum, 2e-6);
    }
    for (uint32_t dim : {4u, 8u, 20u, 64u, 128u}) {
        const uint32_t head_dim = dim + 6, heads = 3;
        Aligned<float> x(head_dim * heads), y(x.size()), cos(dim), sin(dim);
        for (size_t i = 0; i < x.size(); ++i) x[i] = y[i] = gaussian();
        for (uint32_t i = 0; i < dim / 2; ++i) cos[i] = std::cos(0.3f * i), sin[i] = std::sin(0.3f * i);
        kernels.rope(x.data(), heads, head_dim, dim, cos.data(), sin.data());
        double worst = 0;
        for (uint32_t h = 0; h < heads; ++h)
            for (uint32_t i = 0; i < head_dim; ++i) {
                const float* v = &y[h * head_dim];
                double expected = v[i];
                if (i < dim / 2)
                    expected = double(v[i]) * cos[i] - double(v[i + dim / 2]) * sin[i];
                else if (i < dim)
                    expected = double(v[i]) * cos[i - dim / 2] + double(v[i - dim / 2]) * sin[i - dim / 2];
                worst = std::fmax(worst, std::fabs(expected - x[h * head_dim + i]));
            }
        check(kernels.isa, "rope dim=" + std::to_string(dim), worst, 1e-6);
    }
}

const char* name(KvType type) {
    const char* const names[] = {"f32", "f16", "int8", "int4"};
    return names[int(type)];
}

struct Cache {
    Aligned<std::byte> k, v;
    KvHead head;
    Cache(KvType type, uint32_t head_dim, uint32_t slots)
        : k(kv_k_bytes(type, head_dim, slots)),
          v(kv_v_bytes(type, head_dim, slots)),
          head{k.data(), v.data(), type, head_dim} {}
};

struct State {
    Aligned<float> max, sum, acc;
    State(uint32_t n, uint32_t head_dim) : max(n), sum(n), acc(size_t(n) * head_dim) {
        for (uint32_t i = 0; i < n; ++i) max[i] = -INFINITY;
    }
    AttendState view() { return {max.data(), sum.data(), acc.data()}; }
};

void test_attend(const Kernels& kernels, const Kernels& reference, KvType type, uint32_t head_dim, uint32_t n,
                 uint32_t slots, float softcap) {
    const std::string what = std::string("attend ") + name(type) + " head_dim=" + std::to_string(head_dim) +
                             " n=" + std::to_string(n) + " slots=" + std::to_string(slots) +
                             (softcap > 0 ? " softcap" : "");
    Cache cache(type, head_dim, slots), same(type, head_dim, slots);
    std::vector<float> k(size_t(slots) * head_dim), v(k.size()), k_read(head_dim), v_read(head_dim);
    double error = 0, power = 0;
    for (uint32_t s = 0; s < slots; ++s) {
        float* ks = &k[size_t(s) * head_dim];
        float* vs = &v[size_t(s) * head_dim];
        for (uint32_t d = 0; d < head_dim; ++d) {
            ks[d] = gaussian() * (d == 3 ? 8.0f : 1.0f);
            vs[d] = gaussian();
        }
        // Overwritten once: writing a slot touches no other and leaves nothing of what it held.
        kernels.kv_store(cache.head, s, vs, ks);
        kernels.kv_store(cache.head, s, ks, vs);
        reference.kv_store(same.head, s, ks, vs);
    }
    check(kernels.isa, what + " bytes",
          std::memcmp(cache.k.data(), same.k.data(), cache.k.size()) != 0 ||
              std::memcmp(cache.v.data(), same.v.data(), cache.v.size()) != 0,
          0);
    for (uint32_t s = 0; s < slots; ++s) {
        kernels.kv_load(cache.head, s, k_read.data(), v_read.data());
        for (uint32_t d = 0; d < head_dim; ++d) {
            float& kd = k[size_t(s) * head_dim + d];
            float& vd = v[size_t(s) * head_dim + d];
            error += (kd - k_read[d]) * (kd - k_read[d]) + (vd - v_read[d]) * (vd - v_read[d]);
            power += kd * kd + vd * vd;
            kd = k_read[d];
            vd = v_read[d];
        }
    }
    const double tolerance[] = {0, 5e-4, 0.012, 0.11};
    check(kernels.isa, what + " kv_load", std::sqrt(error / power), tolerance[int(type)]);

    Aligned<float> q(size_t(n) * head_dim), out(q.size());
    for (size_t i = 0; i < q.size(); ++i) q[i] = gaussian() / std::sqrt(float(head_dim)) * 1.5f;
    std::vector<uint32_t> begin(n), end(n);
    for (uint32_t i = 0; i < n; ++i) {
        begin[i] = i % 3 == 1 ? slots / 3 : 0;
        end[i] = slots - i % 5 < 1 ? 1 : slots - i % 5;
        if (i % 7 == 6) begin[i] = end[i] = slots / 2;
    }
    Aligned<std::byte> prepared(n * attend_query_bytes(type, head_dim)),
        scratch(attend_scratch_bytes(n, head_dim));
    kernels.attend_query(type, q.data(), n, head_dim, prepared.data());
    AttendArgs args{cache.head, q.data(), prepared.data(), n, nullptr, nullptr, softcap, {}, scratch.data()};
    State low(n, head_dim), high(n, head_dim);
    // Two runs, cut in the middle, then joined; queries that see nothing of a part leave it untouched.
    std::vector<uint32_t> cut(n);
    for (uint32_t i = 0; i < n; ++i) cut[i] = std::min(std::max(slots / 2 + 1, begin[i]), end[i]);
    args.begin = begin.data(), args.end = cut.data(), args.state = low.view();
    kernels.attend(args);
    args.begin = cut.data(), args.end = end.data(), args.state = high.view();
    kernels.attend(args);
    kernels.attend_merge(low.view(), high.view(), n, head_dim);
    kernels.attend_finish(type, low.view(), n, head_dim, out.data());

    double worst = 0;
    std::vector<double> p(slots), expected(head_dim);
    for (uint32_t i = 0; i < n; ++i) {
        double peak = -INFINITY, sum = 0;
        for (uint32_t s = begin[i]; s < end[i]; ++s) {
            double score = 0;
            for (uint32_t d = 0; d < head_dim; ++d)
                score += double(q[size_t(i) * head_dim + d]) * k[size_t(s) * head_dim + d];
            if (softcap > 0) score = softcap * std::tanh(score / softcap);
            p[s] = score;
            peak = std::fmax(peak, score);
        }
        for (double& e : expected) e = 0;
        for (uint32_t s = begin[i]; s < end[i]; ++s) sum += p[s] = std::exp(p[s] - peak);
        for (uint32_t s = begin[i]; s < end[i]; ++s)
            for (uint32_t d = 0; d < head_dim; ++d) expected[d] += p[s] / sum * v[size_t(s) * head_dim + d];
        for (uint32_t d = 0; d < head_dim; ++d)
            worst = std::fmax(worst, std::fabs(expected[d] - out[size_t(i) * head_dim + d]));
    }
    // Quantized caches also quantize the query, to 8 bits.
    check(kernels.isa, what, worst, type == KvType::f32 || type == KvType::f16 ? 1e-5 : 0.12);

    // The same as the reference, whose bytes and integers are the same.
    State expected_state(n, head_dim);
    Aligned<float> expected_out(out.size());
    reference.attend_query(type, q.data(), n, head_dim, prepared.data());
    args.begin = begin.data(), args.end = end.data(), args.state = expected_state.view();
    reference.attend(args);
    reference.attend_finish(type, expected_state.view(), n, head_dim, expected_out.data());
    worst = 0;
    for (size_t i = 0; i < out.size(); ++i) worst = std::fmax(worst, std::fabs(out[i] - expected_out[i]));
    check(kernels.isa, what + " against " + reference.isa, worst, 5e-6);
}

void test(const Kernels& kernels, const Kernels& reference) {
    test_quantize(kernels);
    test_elementwise(kernels);
    for (int layout = 0; layout < int(std::size(kLayouts)); ++layout) {
        for (uint32_t k : {1u, 8u, 31u, 33u, 64u, 172u, 2048u})
            for (uint32_t n : {1u, 15u, 16u, 17u, 100u}) {
                if (k == 2048 && n == 100) continue;
                test_dequantize_row(kernels, Layout(layout), n, k);
                for (uint32_t m = 1; m <= 14; ++m) {
                    if ((k == 2048 || n == 100) && m > 5 && m < 12) continue;
                    test_matmul(kernels, Layout(layout), n, k, m);
                }
            }
        test_matmul(kernels, Layout(layout), 50, 96, 64);
        for (uint32_t m : {1u, 2u, 9u, 30u})
            if (kLayouts[layout].quantized()) test_extremes(kernels, Layout(layout), m);
        for (uint32_t m = 1; m <= 4; ++m)
            test_matmul(kernels, Layout(layout), 16 * 29, 64, m);  // runs of two for six tiles side by side
    }
    for (int type = 0; type < 4; ++type) {
        for (uint32_t head_dim : {8u, 40u, 64u, 80u, 128u})
            for (uint32_t n : {1u, 2u, 3u, 4u, 7u, 8u, 9u, 29u})
                for (uint32_t slots : {16u, 64u, 208u}) {
                    if (n > 4 && slots == 64) continue;
                    test_attend(kernels, reference, KvType(type), head_dim, n, slots, n % 2 ? 0.0f : 20.0f);
                }
        test_attend(kernels, reference, KvType(type), 256, 130, 320, 0.0f);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const Kernels* all[16];
    const size_t count = list_kernels(all, 16);
    const Kernels* reference = find_kernels("scalar");
    if (!reference || find_kernels("no such set") || (count && find_kernels(nullptr) != all[0])) {
        std::printf("FAILED find_kernels\n");
        return 1;
    }
    for (size_t i = 0; i < count; ++i) {
        if (argc > 1 && std::strcmp(argv[1], all[i]->isa) != 0) continue;
        const int before = checks;
        random_state = 1;
        test(*all[i], *reference);
        std::printf("%s: %d checks\n", all[i]->isa, checks - before);
    }
    if (!checks) std::printf("FAILED no set %s runs here\n", argc > 1 ? argv[1] : "at all");
    std::printf("%d failed\n", failures);
    return failures || !checks ? 1 : 0;
}
