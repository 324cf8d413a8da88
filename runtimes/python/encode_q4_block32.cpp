#include "encode_q4_block32.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace edgekit::q4_block32 {

namespace {

constexpr float kSmallest = 1e-36f;
constexpr float kSteps = 3.4f;
constexpr uint32_t kScalesOffset = 4 * kTileRows;
constexpr uint32_t kGroupBytes = kTileRows * kGroup / 2;
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

// The scale that suits a group best, of those that the starts lead to.
float best_scale(const float* x, const Tables& tables) {
    uint8_t steps[kGroup];
    to_bytes(x, 127 * inverse(largest(x)), steps);
    float best = 0, best_gain = -1;
    for (const auto& levels : tables.levels) {
        float level[kGroup];
        for (uint32_t i = 0; i < kGroup; ++i) level[i] = levels[steps[i]];
        float cross[kLanes] = {}, norm[kLanes] = {};
        for (uint32_t i = 0; i < kGroup; i += kLanes) {
            for (uint32_t lane = 0; lane < kLanes; ++lane) {
                cross[lane] += x[i + lane] * level[i + lane];
                norm[lane] += level[i + lane] * level[i + lane];
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

}  // namespace

size_t tile_bytes(uint32_t k) { return codes_offset(k) + size_t{kGroupBytes} * n_groups(k); }

void encode(const float* rows, uint32_t k, const Tables& tables, uint8_t* tile) {
    const uint32_t groups = n_groups(k);
    std::memset(tile, 0, codes_offset(k));
    std::vector<float> padded(size_t{groups} * kGroup), scales(groups);
    for (uint32_t row = 0; row < kTileRows; ++row) {
        std::copy_n(rows + size_t{row} * k, k, padded.begin());
        float peak = 0;
        for (uint32_t group = 0; group < groups; ++group) {
            scales[group] = best_scale(&padded[size_t{group} * kGroup], tables);
            peak = std::max(peak, std::abs(scales[group]));
        }
        const float row_scale = peak / 127;
        std::memcpy(tile + size_t{4} * row, &row_scale, 4);
        for (uint32_t group = 0; group < groups; ++group) {
            const auto scale = static_cast<int8_t>(
                std::lrint(std::clamp(scales[group] * inverse(row_scale), -127.f, 127.f)));
            tile[kScalesOffset + size_t{16} * group + row] = static_cast<uint8_t>(scale);
            uint8_t codes[kGroup];
            to_bytes(&padded[size_t{group} * kGroup], kSteps * inverse(static_cast<float>(scale) * row_scale),
                     codes);
            for (uint8_t& code : codes) code = tables.codes[code];
            uint8_t* lines = tile + codes_offset(k) + size_t{kGroupBytes} * group + 4 * row;
            for (int line = 0; line < 4; ++line)
                for (int byte = 0; byte < 4; ++byte)
                    lines[64 * line + byte] =
                        static_cast<uint8_t>(codes[4 * line + byte] | codes[16 + 4 * line + byte] << 4);
        }
    }
}

}  // namespace edgekit::q4_block32
