#pragma once
// SHA-256 (FIPS 180-4).

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace edgekit {

class Sha256 {
public:
    using Digest = std::array<std::byte, 32>;

    void update(std::span<const std::byte> bytes);
    // The object is spent.
    Digest digest();
    // The digest in lower-case hexadecimal; the object is spent.
    std::string hex();

private:
    void block(const uint8_t* bytes);

    std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<uint8_t, 64> pending_{};
    uint64_t size_ = 0;
};

std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace edgekit
