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
#include <string_view>

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

// A number that a kernel is compiled with.
struct Constant {
    std::string_view name;
    uint32_t value;
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
    // A storage buffer that is memory which outlives it, whole pages of the processor's, and is only read;
    // nullptr: this device cannot have that.
    virtual std::unique_ptr<Buffer> adopt(std::span<const std::byte>) { return nullptr; }
    // Of `lanes` in a workgroup. Compiled once for all that ask for the same: LANES and the constants, then
    // the files of these names, in the device's language.
    virtual const Kernel* kernel(const std::string& name, uint32_t lanes, std::span<const Constant> constants,
                                 std::span<const std::string_view> files) = 0;
    virtual std::unique_ptr<Bindings> bind(const Buffers& buffers) = 0;
    // Offsets and sizes are multiples of 4. What was written is seen by dispatches that follow.
    virtual void write(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) = 0;
    virtual void copy(const Buffer& from, const Buffer& to, uint64_t bytes) = 0;
    // Each sees what those before it wrote.
    virtual void run(std::span<const Dispatch> dispatches) = 0;
    // After all that was run.
    virtual void read(const Buffer& from, uint64_t offset, std::span<std::byte> bytes) = 0;
};

// The build's kind of device, one for all models of a process, and a new one after it was lost. Throws
// Error(unsupported) when there is none that computes.
std::shared_ptr<Device> open_device(const edgekit_model_options& options);

}  // namespace edgekit::gpu
