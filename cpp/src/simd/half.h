#pragma once
// float16 without hardware: both directions, as bits.

#include <cstdint>
#include <cstring>

namespace edgekit::EDGEKIT_ISA {

inline float float_of(uint32_t word) {
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}
inline uint32_t word_of(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return word;
}

// To float32. Exponent and fraction in place, rebased by a multiplication that also normalises subnormals;
// infinities put back.
inline float widen_half(uint32_t half) {
    const uint32_t sign = (half & 0x8000) << 16, rest = half & 0x7FFF, shifted = rest << 13;
    const uint32_t magnitude = word_of(float_of(shifted) * 5.192296858534828e33f);  // 2^112
    return float_of(sign | (rest >= 0x7C00 ? 0x7F800000 | shifted : magnitude));
}

// From float32, to nearest even; too large becomes infinite.
inline uint16_t narrow_half(float value) {
    const uint32_t word = word_of(value), sign = (word >> 16) & 0x8000, magnitude = word & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return uint16_t(sign | 0x7E00);
    if (magnitude >= 0x477FF000) return uint16_t(sign | 0x7C00);
    if (magnitude < 0x38800000)  // subnormal: adding 1/2 leaves the fraction's bits, rounded, at the bottom
        return uint16_t(sign | (word_of(float_of(magnitude) + 0.5f) - 0x3F000000));
    return uint16_t(sign | ((magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13));
}

}  // namespace edgekit::EDGEKIT_ISA
