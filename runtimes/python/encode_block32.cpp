#include "encode_block32.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace edgekit::block32 {

namespace {

constexpr float kSmallest = 1e-36f;
constexpr uint32_t kScalesOffset = 4 * kTileRows;
constexpr uint32_t kLine = 4 * kTileRows;  // bytes: four columns of a tile's rows
constexpr uint32_t kLines = kGroup / 4;
constexpr uint32_t kLanes = 8;  // partial sums, so that the compiler may use vectors

uint32_t n_groups(uint32_t k) { return (k + kGroup - 1) / kGroup; }
size_t codes_offset(uint32_t k) { return kScalesOffset + (size_t{16} * n_groups(k) + 63) / 64 * 64; }

float inverse(float scale) { return std::abs(scale) > kSmallest ? 1 / scale : 0; }

// The weight of a group that is farthest from zero.
float largest(const float* x) {
    float high[kLanes], low[kLanes];
    std::copy_n(x, kLanes, high);
    std::copy_n(x, kLanes, low);
    for (uint32_t i = kLanes; i < kGroup; i += kLanes) {
        for (uint32_t lane = 0; lane < kLanes; ++lane) {
            high[lane] = x[i + lane] > high[lane] ? x[i + lane] : high[lane];
            low[lane] = x[i + lane] < low[lane] ? x[i + lane] : low[lane];
        }
    }
    const float top = *std::max_element(high, high + kLanes), bottom = *std::min_element(low, low + kLanes);
    return top > -bottom ? top : bottom;
}

// 128 + round(x · factor), clipped to a byte; 0 for what is not a number.
void to_bytes(const float* x, float factor, uint8_t* bytes) {
    for (uint32_t i = 0; i < kGroup; ++i) {
        float value = x[i] * factor + 128.5f;
        value = value > 0 ? value : 0;
        value = value < 255 ? value : 255;
        bytes[i] = static_cast<uint8_t>(static_cast<int>(value));
    }
}

// Where a line's field of so many bits lies among its planes: which plane, and from which bit on.
struct Place {
    uint32_t plane, shift;
};
Place place_of(uint32_t line, uint32_t width) {
    if (width == 4) return {line % 4, 4 * (line / 4)};
    return {line * width / 8, line * width % 8};
}

}  // namespace

uint32_t Coder::bits() const {
    uint32_t sum = 0;
    for (const uint32_t width : fields) sum += width;
    return sum;
}

size_t Coder::tile_bytes(uint32_t k) const {
    return codes_offset(k) + size_t{kTileRows} * kGroup * bits() / 8 * n_groups(k);
}

// The scale that suits a group best, of those that the starts lead to.
float Coder::best_scale(const float* x, const float* importance) const {
    uint8_t steps[kGroup];
    to_bytes(x, 127 * inverse(largest(x)), steps);
    float best = 0, best_gain = -1;
    for (const auto& levels : starts) {
        float level[kGroup], weighed[kGroup];
        for (uint32_t i = 0; i < kGroup; ++i) level[i] = weighed[i] = levels[steps[i]];
        if (importance)
            for (uint32_t i = 0; i < kGroup; ++i) weighed[i] *= importance[i];
        float cross[kLanes] = {}, norm[kLanes] = {};
        for (uint32_t i = 0; i < kGroup; i += kLanes) {
            for (uint32_t lane = 0; lane < kLanes; ++lane) {
                cross[lane] += x[i + lane] * weighed[i + lane];
                norm[lane] += level[i + lane] * weighed[i + lane];
            }
        }
        float cross_sum = 0, norm_sum = 0;
        for (uint32_t lane = 0; lane < kLanes; ++lane) {
            cross_sum += cross[lane];
            norm_sum += norm[lane];
        }
        const float scale = cross_sum * inverse(norm_sum);
        const float gain = scale * cross_sum;
        if (gain > best_gain) {
            best = scale;
            best_gain = gain;
        }
    }
    return best;
}

void Coder::encode(const float* rows, uint32_t k, const float* importance, uint8_t* tile) const {
    const uint32_t groups = n_groups(k);
    std::memset(tile, 0, tile_bytes(k));
    std::vector<float> padded(size_t{groups} * kGroup), scales(groups);
    for (uint32_t row = 0; row < kTileRows; ++row) {
        std::copy_n(rows + size_t{row} * k, k, padded.begin());
        float peak = 0;
        for (uint32_t group = 0; group < groups; ++group) {
            const size_t first = size_t{group} * kGroup;
            scales[group] = best_scale(&padded[first], importance ? importance + first : nullptr);
            peak = std::max(peak, std::abs(scales[group]));
        }
        const float row_scale = peak / 127;
        std::memcpy(tile + size_t{4} * row, &row_scale, 4);
        uint8_t* lines = tile + codes_offset(k) + 4 * row;
        for (uint32_t group = 0; group < groups; ++group) {
            const auto scale = static_cast<int8_t>(
                std::lrint(std::clamp(scales[group] * inverse(row_scale), -127.f, 127.f)));
            tile[kScalesOffset + size_t{16} * group + row] = static_cast<uint8_t>(scale);
            uint8_t nearest[kGroup];
            to_bytes(&padded[size_t{group} * kGroup], steps * inverse(static_cast<float>(scale) * row_scale),
                     nearest);
            uint32_t done = 0;
            for (const uint32_t width : fields) {
                for (uint32_t i = 0; i < kGroup; ++i) {
                    const auto [plane, shift] = place_of(i / 4, width);
                    const uint32_t field = codes[nearest[i]] >> done & ((1u << width) - 1);
                    lines[kLine * plane + i % 4] |= static_cast<uint8_t>(field << shift);
                }
                lines += kLine * kLines * width / 8;
                done += width;
            }
        }
    }
}

}  // namespace edgekit::block32
