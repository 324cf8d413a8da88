#pragma once
// A file that takes another's place once it is complete: until then the old one stays as it was.

#include <cstddef>
#include <cstdio>
#include <span>
#include <string>

namespace edgekit {

class ReplacingFile {
public:
    // Begins a file of its own name beside `path`; what is no regular file, such as a device or a pipe, is
    // written itself. Throws Error(io_error), as all calls do.
    explicit ReplacingFile(const std::string& path);
    // Leaves nothing behind unless `commit` was called.
    ~ReplacingFile();
    ReplacingFile(const ReplacingFile&) = delete;
    ReplacingFile& operator=(const ReplacingFile&) = delete;

    void write(std::span<const std::byte> bytes);
    // The bytes are on the disk under their name when this returns.
    void commit();

private:
    void require(bool ok) const;

    std::string target_;
    std::string beside_;  // empty: the target is written itself
    std::FILE* file_ = nullptr;
};

}  // namespace edgekit
