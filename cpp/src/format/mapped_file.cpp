#include "format/mapped_file.h"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>
#include <system_error>

#include "error.h"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#if !defined(__EMSCRIPTEN__)
#define EDGEKIT_HAS_MMAP 1
#endif
#endif

namespace edgekit {

namespace {

struct Close {
    void operator()(std::FILE* stream) const { std::fclose(stream); }
};
using Stream = std::unique_ptr<std::FILE, Close>;

[[noreturn]] void fail(const std::string& path, const char* what) {
    throw Error(Status::io_error,
                "cannot " + std::string(what) + " '" + path + "': " + std::generic_category().message(errno));
}

// Of a file that is open: how large it is, and when it was last written to, in nanoseconds.
struct Extent {
    uint64_t size = 0;
    int64_t written = 0;
};

#if defined(__unix__) || defined(__APPLE__)

// A pipe without a writer is opened too, at once, and then refused.
Stream open_stream(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail(path, "open");
    Stream stream(::fdopen(descriptor, "rb"));
    if (!stream) {
        ::close(descriptor);
        fail(path, "open");
    }
    return stream;
}

Extent extent_of(const std::string& path, std::FILE* stream) {
    struct stat info{};
    if (::fstat(::fileno(stream), &info) != 0 || !S_ISREG(info.st_mode))
        throw Error(Status::io_error, "'" + path + "' is not a file");
#if defined(__APPLE__)
    const timespec written = info.st_mtimespec;
#else
    const timespec written = info.st_mtim;
#endif
    return {static_cast<uint64_t>(info.st_size), int64_t{written.tv_sec} * 1'000'000'000 + written.tv_nsec};
}

#else

Stream open_stream(const std::string& path) {
    Stream stream(std::fopen(path.c_str(), "rb"));
    if (!stream) fail(path, "open");
    return stream;
}

Extent extent_of(const std::string& path, std::FILE* stream) {
    if (::_fseeki64(stream, 0, SEEK_END) != 0) fail(path, "read");
    const auto size = static_cast<uint64_t>(::_ftelli64(stream));
    std::rewind(stream);
    return {size, 0};
}

#endif

}  // namespace

struct MappedFile::Source {
    std::string path;
    Stream stream;
    Extent extent;
};

MappedFile::MappedFile(const std::string& path, [[maybe_unused]] FileAccess access) {
    Stream stream = open_stream(path);
    const Extent extent = extent_of(path, stream.get());
    const auto size = static_cast<size_t>(extent.size);
    if (size == 0) throw Error(Status::invalid_file, "the file is empty");
    if (size != extent.size)
        throw Error(Status::out_of_memory, "'" + path + "' has " + std::to_string(extent.size) +
                                               " bytes, more than this process can address");
#if EDGEKIT_HAS_MMAP
    if (access == FileAccess::mapped) {
        source_ = std::make_unique<Source>(Source{path, std::move(stream), extent});
        void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, ::fileno(source_->stream.get()), 0);
        if (address == MAP_FAILED)
            throw Error(Status::out_of_memory, "cannot map '" + path + "' (" + std::to_string(size) +
                                                   " bytes): " + std::generic_category().message(errno));
#ifdef MADV_HUGEPAGE
        // A cold file is then read in pages of 2 MB, where the file system can: fewer faults, and weights
        // that stream a fifth faster. A hint: whether it is taken does not matter here.
        ::madvise(address, size, MADV_HUGEPAGE);
#endif
        bytes_ = {static_cast<const std::byte*>(address), size};
        return;
    }
#endif
    struct Free {
        void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{64}); }
    };
    std::unique_ptr<void, Free> memory(::operator new(size, std::align_val_t{64}, std::nothrow));
    if (!memory)
        throw Error(Status::out_of_memory,
                    "no memory for '" + path + "' (" + std::to_string(size) + " bytes)");
    const size_t got = std::fread(memory.get(), 1, size, stream.get());
    if (std::ferror(stream.get())) fail(path, "read");
    if (got < size)
        throw Error(Status::io_error, "'" + path + "' was cut from " + std::to_string(size) + " to " +
                                          std::to_string(got) + " bytes while it was read");
    bytes_ = {static_cast<const std::byte*>(memory.get()), size};
    allocated_ = size;
    release_ = [](void* context) { Free()(context); };
    context_ = memory.release();
}

MappedFile::MappedFile(std::span<const std::byte> bytes, void (*release)(void*), void* context)
    : bytes_(bytes), release_(release), context_(context) {}

MappedFile::~MappedFile() {
#if EDGEKIT_HAS_MMAP
    if (source_) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
#endif
    if (release_) release_(context_);
}

void MappedFile::require_unchanged() const {
    if (!source_) return;
    const Extent now = extent_of(source_->path, source_->stream.get());
    const std::string_view remedy =
        ": open it again; a file that is replaced while it is used must be read into memory, or be renamed "
        "over";
    if (now.size < bytes_.size())
        throw Error(Status::io_error, "'" + source_->path + "' was cut from " +
                                          std::to_string(bytes_.size()) + " to " + std::to_string(now.size) +
                                          " bytes while it was used" + std::string(remedy));
    if (now.written != source_->extent.written)
        throw Error(Status::io_error,
                    "'" + source_->path + "' was written to while it was used" + std::string(remedy));
}

void MappedFile::read_ahead([[maybe_unused]] std::span<const std::byte> scattered) const {
#if EDGEKIT_HAS_MMAP
    if (!source_) return;
    constexpr size_t kPage = 1 << 16;  // a multiple of every system's
    const auto advise = [&](size_t begin, size_t end, int advice) {
        if (begin < end) ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, end - begin, advice);
    };
    const size_t first = scattered.empty() ? bytes_.size() : scattered.data() - bytes_.data();
    const size_t begin = (first + kPage - 1) / kPage * kPage,
                 end = (first + scattered.size()) / kPage * kPage;
    advise(begin, end, MADV_RANDOM);
#ifdef MADV_NOHUGEPAGE
    advise(begin, end, MADV_NOHUGEPAGE);
#endif
    advise(0, std::min(begin, bytes_.size()), MADV_WILLNEED);
    advise(std::max(begin, end), bytes_.size(), MADV_WILLNEED);
#endif
}

}  // namespace edgekit
