#pragma once
// A file as bytes in memory: mapped read-only where the system can and the caller does not mind, else read.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace edgekit {

enum class FileAccess { mapped, in_memory };

class MappedFile {
public:
    // Throws Error(io_error) when the file cannot be opened or is cut while it is read, Error(out_of_memory)
    // when it cannot be mapped or held.
    explicit MappedFile(const std::string& path, FileAccess access = FileAccess::mapped);
    // Bytes that lie in memory already, 64-byte aligned; `release` (may be empty) is called when they are no
    // longer needed.
    MappedFile(std::span<const std::byte> bytes, void (*release)(void*), void* context);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::span<const std::byte> bytes() const { return bytes_; }
    // Bytes that reading the file took; 0 when it is mapped.
    size_t allocated() const { return allocated_; }
    // Whether the bytes change when somebody writes to the file, and are gone when it is cut.
    bool is_mapped() const { return source_ != nullptr; }
    // Throws Error(io_error) when that has happened: better than a signal or an answer made of other bytes.
    void require_unchanged() const;
    // Asks the system to bring the file in ahead of its use, in long reads instead of a fault at a time; all
    // but `scattered`, a part of which little is read, here and there.
    void read_ahead(std::span<const std::byte> scattered) const;

private:
    struct Source;

    std::unique_ptr<Source> source_;  // of a mapping: the file, which stays open
    std::span<const std::byte> bytes_;
    size_t allocated_ = 0;
    void (*release_)(void*) = nullptr;
    void* context_ = nullptr;
};

}  // namespace edgekit
