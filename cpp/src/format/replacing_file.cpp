#include "format/replacing_file.h"

#include <cerrno>
#include <cstdlib>
#include <random>
#include <system_error>
#include <utility>

#include "error.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/stat.h>
#include <unistd.h>
#define EDGEKIT_POSIX_FILES
#endif

namespace edgekit {

namespace {

// Whether there is something at `path` that a rename would destroy rather than replace.
bool is_written_itself(const std::string& path) {
#ifdef EDGEKIT_POSIX_FILES
    struct stat status;
    return ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
#else
    static_cast<void>(path);
    return false;
#endif
}

// The file that symbolic links at `path` lead to.
std::string resolved(const std::string& path) {
#ifdef EDGEKIT_POSIX_FILES
    if (char* real = ::realpath(path.c_str(), nullptr)) {
        std::string out(real);
        std::free(real);
        return out;
    }
#endif
    return path;
}

}  // namespace

void ReplacingFile::require(bool ok) const {
    if (!ok)
        throw Error(Status::io_error,
                    "cannot write '" + target_ + "': " + std::generic_category().message(errno));
}

ReplacingFile::ReplacingFile(const std::string& path) : target_(resolved(path)) {
    if (is_written_itself(path)) {
        file_ = std::fopen(path.c_str(), "wb");
    } else {
        std::random_device random;
        do {
            beside_ = target_ + "." + std::to_string(random()) + ".part";
            file_ = std::fopen(beside_.c_str(), "wbx");
        } while (!file_ && errno == EEXIST);
    }
    require(file_);
}

ReplacingFile::~ReplacingFile() {
    if (!file_) return;
    std::fclose(file_);
    if (!beside_.empty()) std::remove(beside_.c_str());
}

void ReplacingFile::write(std::span<const std::byte> bytes) {
    require(std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size());
}

void ReplacingFile::commit() {
    require(std::fflush(file_) == 0);
    if (!beside_.empty()) {
#ifdef EDGEKIT_POSIX_FILES
        require(::fsync(fileno(file_)) == 0);
#endif
        require(std::rename(beside_.c_str(), target_.c_str()) == 0);
    }
    beside_.clear();
    require(std::fclose(std::exchange(file_, nullptr)) == 0);
}

}  // namespace edgekit
