#pragma once
// A graphics processor as the program needs it: buffers, compiled kernels, and dispatches in order. One file
// a device.
//
// Every kernel sees the same six buffers: its own parameters, which dispatch says where; the table of the
// pass's rows; the model's vectors; a page of its matrices; the arena of activations; the cells of a text.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "backend/backend.h"

namespace edgekit::gpu {

class Buffer {
public:
    virtual ~Buffer() = default;
};

class Kernel {
public:
    virtual ~Kernel() = default;
};

// The buffers of a dispatch.
struct Buffers {
    const Buffer& params;
    const Buffer& rows;
    const Buffer& vectors;
    const Buffer& weights;
    const Buffer& arena;
    const Buffer& cells;
};

class Bindings {
public:
    virtual ~Bindings() = default;
};

inline constexpr uint32_t kParamsBytes = 256;  // of a dispatch; the alignment that every device accepts

struct Dispatch {
    const Kernel* kernel;
    const Bindings* bindings;
    uint32_t params;  // which, in units of kParamsBytes
    uint32_t x, y, z;
};

struct Limits {
    uint64_t buffer_bytes;  // of one that a kernel reads
    uint32_t workgroups;    // along one axis
};

// All throw BackendFailure when the device is lost or has refused something.
class Device {
public:
    virtual ~Device() = default;

    // Passes and transfers of all its users take turns: held around every other call.
    std::mutex turn;

    virtual const Limits& limits() const = 0;
    // As its driver calls it.
    virtual const std::string& name() const = 0;
    // Zeroed. `params`: for the parameters of dispatches.
    enum class Use : uint8_t { params, storage };
    virtual std::unique_ptr<Buffer> buffer(Use use, uint64_t bytes) = 0;
    // Compiled once for all that ask for the same source.
    virtual const Kernel* kernel(const std::string& name, const std::string& source) = 0;
    virtual std::unique_ptr<Bindings> bind(const Buffers& buffers) = 0;
    // Offsets and sizes are multiples of 4. What was written is seen by dispatches that follow.
    virtual void write(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) = 0;
    virtual void copy(const Buffer& from, const Buffer& to, uint64_t bytes) = 0;
    // Each sees what those before it wrote.
    virtual void run(std::span<const Dispatch> dispatches) = 0;
    // After all that was run.
    virtual void read(const Buffer& from, uint64_t offset, std::span<std::byte> bytes) = 0;
};

// Through webgpu.h, from wgpu-native's library at `library` (UTF-8; nullptr: the loader's own search). One
// for all models of a process, and a new one after it was lost. Throws Error(unsupported) when there is no
// library, or no adapter that computes.
std::shared_ptr<Device> webgpu_device(const char* library);

}  // namespace edgekit::gpu
