#pragma once
// A file as bytes in memory: mapped read-only where the system can, read into aligned memory where it cannot.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace edgekit {

class MappedFile {
public:
    // Throws Error(io_error) when the file cannot be opened, Error(out_of_memory) when it cannot be mapped.
    explicit MappedFile(const std::string& path);
    // Bytes that lie in memory already, 64-byte aligned; `release` (may be empty) is called when they are no
    // longer needed.
    MappedFile(std::span<const std::byte> bytes, void (*release)(void*), void* context);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::span<const std::byte> bytes() const { return bytes_; }
    // Asks the system to bring the whole file in ahead of its use: one long read instead of a fault at a
    // time.
    void read_ahead() const;

private:
    std::span<const std::byte> bytes_;
    void (*release_)(void*) = nullptr;
    void* context_ = nullptr;
};

}  // namespace edgekit
