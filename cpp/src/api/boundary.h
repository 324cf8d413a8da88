#pragma once
// Where exceptions become statuses: every function of edgekit.h runs its work through `guarded`.

#include <cstdio>
#include <cstring>
#include <new>
#include <span>
#include <string>

#include "edgekit/edgekit.h"
#include "error.h"

namespace edgekit::api {

inline edgekit_status report(edgekit_error* error, edgekit_status status, const char* message,
                             uint64_t needed_bytes = 0) {
    if (error) {
        error->status = status;
        error->needed_bytes = needed_bytes;
        // Cut, if at all, before a code point.
        size_t size = std::strlen(message);
        if (size >= sizeof error->message) {
            size = sizeof error->message - 1;
            while (size && (static_cast<unsigned char>(message[size]) & 0xC0) == 0x80) --size;
        }
        std::memcpy(error->message, message, size);
        error->message[size] = '\0';
    }
    return status;
}

// Runs work(), which returns a status, and reports what it throws.
template <class Work>
edgekit_status guarded(edgekit_error* error, Work&& work) noexcept {
    try {
        const edgekit_status status = work();
        if (status == EDGEKIT_OK) return report(error, status, "");
        return status;
    } catch (const Error& e) {
        return report(error, static_cast<edgekit_status>(e.status()), e.what(), e.needed_bytes());
    } catch (const std::bad_alloc&) {
        return report(error, EDGEKIT_OUT_OF_MEMORY, "the system refused an allocation");
    } catch (const std::exception& e) {
        return report(error, EDGEKIT_INTERNAL, e.what());
    } catch (...) {
        return report(error, EDGEKIT_INTERNAL, "an unknown error");
    }
}

inline void require(bool ok, const char* what) {
    if (!ok) throw Error(Status::invalid_argument, what);
}

// An array or a text: its pointer may be NULL when its length is 0.
inline void require_items(const void* data, size_t count, const char* name) {
    if (count && !data)
        throw Error(Status::invalid_argument,
                    std::string(name) + " is NULL and has a length of " + std::to_string(count));
}

// A value of an enum that begins at 0.
template <class Enum>
void require_enum(const Enum& value, Enum last, const char* name) {
    std::underlying_type_t<Enum> seen;  // perhaps none of the enum's values
    std::memcpy(&seen, &value, sizeof seen);
    if (seen > static_cast<std::underlying_type_t<Enum>>(last))
        throw Error(Status::invalid_argument, std::string(name) + " is " + std::to_string(seen) +
                                                  "; the largest this library knows is " +
                                                  std::to_string(last));
}

// read(), which takes in the file at `path`: what is wrong with its bytes is said with its name.
template <class Read>
auto reading(const char* path, Read&& read) {
    try {
        return read();
    } catch (const Error& e) {
        if (e.status() != Status::invalid_file && e.status() != Status::unsupported) throw;
        throw Error(e.status(), "'" + std::string(path) + "': " + e.what());
    }
}

// A struct from a caller compiled against this or an older header: members it does not know keep their
// defaults.
template <class T>
T read_options(const T* given, void (*init)(T*)) {
    T options;
    init(&options);
    if (!given) return options;
    if (given->struct_size < sizeof(size_t) || given->struct_size > sizeof(T))
        throw Error(Status::invalid_argument, "struct_size is " + std::to_string(given->struct_size) +
                                                  ", this library knows " + std::to_string(sizeof(T)) +
                                                  ": call the *_init function first, or update edgekit");
    std::memcpy(&options, given, given->struct_size);
    options.struct_size = sizeof(T);
    return options;
}

// A struct that a call will fill; checked before the call does anything.
template <class T>
void require_result(const T* out) {
    require(out, "the result pointer is NULL");
    if (out->struct_size < sizeof(size_t) || out->struct_size > sizeof(T))
        throw Error(Status::invalid_argument, "struct_size is " + std::to_string(out->struct_size) +
                                                  ", this library knows " + std::to_string(sizeof(T)) +
                                                  ": set it to sizeof of the struct, or update edgekit");
}

// Fills a caller's struct as far as the caller knows it.
template <class T>
void write_result(T value, T* out) {
    require_result(out);
    value.struct_size = out->struct_size;
    std::memcpy(out, &value, value.struct_size);
}

template <class T>
edgekit_status copy_out(std::span<const T> result, T* buffer, size_t capacity, size_t* size,
                        edgekit_error* error) {
    require(size, "the size pointer is NULL");
    require_items(buffer, capacity, "the buffer");
    *size = result.size();
    if (capacity < result.size()) {
        const std::string message = "the buffer holds " + std::to_string(capacity) + ", " +
                                    std::to_string(result.size()) + " are needed";
        return report(error, EDGEKIT_BUFFER_TOO_SMALL, message.c_str());
    }
    if (!result.empty()) std::memcpy(buffer, result.data(), result.size_bytes());
    return EDGEKIT_OK;
}

}  // namespace edgekit::api
