// WebGPU through wgpu-native's webgpu.h. The library is loaded when a model asks for it, so that nothing
// links against it.

#include <dlfcn.h>
#include <webgpu.h>
// (order matters)
#include <wgpu.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>

#include "error.h"
#include "gpu/device.h"
#include "gpu/wgsl_source.h"

namespace edgekit::gpu {

namespace {

// The calls that are made, by the names they have without "wgpu".
#define EDGEKIT_WEBGPU_CALLS(X)             \
    X(CreateInstance)                       \
    X(GetVersion)                           \
    X(InstanceRequestAdapter)               \
    X(InstanceProcessEvents)                \
    X(InstanceRelease)                      \
    X(AdapterGetInfo)                       \
    X(AdapterInfoFreeMembers)               \
    X(AdapterGetLimits)                     \
    X(AdapterRequestDevice)                 \
    X(AdapterRelease)                       \
    X(DeviceCreateBindGroup)                \
    X(DeviceCreateBindGroupLayout)          \
    X(DeviceCreateBuffer)                   \
    X(DeviceCreateCommandEncoder)           \
    X(DeviceCreateComputePipeline)          \
    X(DeviceCreatePipelineLayout)           \
    X(DeviceCreateShaderModule)             \
    X(DeviceGetQueue)                       \
    X(DevicePoll)                           \
    X(DeviceDestroy)                        \
    X(DeviceRelease)                        \
    X(QueueSubmit)                          \
    X(QueueWriteBuffer)                     \
    X(QueueRelease)                         \
    X(BufferMapAsync)                       \
    X(BufferGetConstMappedRange)            \
    X(BufferUnmap)                          \
    X(BufferRelease)                        \
    X(BindGroupRelease)                     \
    X(BindGroupLayoutRelease)               \
    X(PipelineLayoutRelease)                \
    X(ShaderModuleRelease)                  \
    X(ComputePipelineRelease)               \
    X(CommandEncoderBeginComputePass)       \
    X(CommandEncoderCopyBufferToBuffer)     \
    X(CommandEncoderFinish)                 \
    X(CommandEncoderRelease)                \
    X(CommandBufferRelease)                 \
    X(ComputePassEncoderDispatchWorkgroups) \
    X(ComputePassEncoderEnd)                \
    X(ComputePassEncoderRelease)            \
    X(ComputePassEncoderSetBindGroup)       \
    X(ComputePassEncoderSetPipeline)

struct Calls {
#define EDGEKIT_MEMBER(name) decltype(&wgpu##name) name;
    EDGEKIT_WEBGPU_CALLS(EDGEKIT_MEMBER)
#undef EDGEKIT_MEMBER
};

constexpr const char* kDefaultLibrary = "libwgpu_native.so";

// Once a process; it stays, for its threads may outlive a model.
Calls load(const char* library) {
    void* handle = dlopen(library ? library : kDefaultLibrary, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        throw Error(Status::unsupported,
                    std::string("there is no WebGPU here: ") + dlerror() +  // NOLINT(concurrency-mt-unsafe)
                        "; install edgekit[gpu], or compute on the processor");
    Calls calls{};
#define EDGEKIT_FIND(name)                                                            \
    calls.name = reinterpret_cast<decltype(calls.name)>(dlsym(handle, "wgpu" #name)); \
    if (!calls.name)                                                                  \
        throw Error(Status::unsupported, "the WebGPU library lacks wgpu" #name        \
                                         ": install the version that edgekit[gpu] asks for");
    EDGEKIT_WEBGPU_CALLS(EDGEKIT_FIND)
#undef EDGEKIT_FIND
    return calls;
}

WGPUStringView view(const std::string& text) { return {text.data(), text.size()}; }
std::string text(WGPUStringView view) {
    if (!view.data) return {};
    return {view.data, view.length == WGPU_STRLEN ? std::strlen(view.data) : view.length};
}

// A handle that is released by the call of its kind.
template <class Handle>
class Owned {
public:
    using Release = void (*)(Handle);
    Owned() = default;
    Owned(Handle handle, Release release) : handle_(handle), release_(release) {}
    Owned(Owned&& other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), release_(other.release_) {}
    Owned& operator=(Owned&& other) noexcept {
        std::swap(handle_, other.handle_);
        std::swap(release_, other.release_);
        return *this;
    }
    ~Owned() {
        if (handle_) release_(handle_);
    }
    operator Handle() const { return handle_; }
    Handle* operator&() { return &handle_; }

private:
    Handle handle_ = nullptr;
    Release release_ = nullptr;
};

struct WebGpuBuffer final : Buffer {
    Owned<WGPUBuffer> handle;
    uint64_t bytes = 0;
};
struct WebGpuKernel final : Kernel {
    Owned<WGPUComputePipeline> handle;
};
struct WebGpuBindings final : Bindings {
    Owned<WGPUBindGroup> handle;
};

const WebGpuBuffer& own(const Buffer& buffer) { return static_cast<const WebGpuBuffer&>(buffer); }

// Bytes that are written, or read, at a time: what a device keeps a second time meanwhile.
constexpr uint64_t kTransfer = uint64_t{16} << 20;

class WebGpuDevice final : public Device {
public:
    explicit WebGpuDevice(const char* library);
    ~WebGpuDevice() override {
        if (device_) wgpu_.DeviceDestroy(device_);
    }

    const Limits& limits() const override { return limits_; }
    const std::string& name() const override { return name_; }
    std::unique_ptr<Buffer> buffer(Use use, uint64_t bytes) override {
        return make_buffer((use == Use::params ? WGPUBufferUsage_Uniform : WGPUBufferUsage_Storage) |
                               WGPUBufferUsage_CopyDst | WGPUBufferUsage_CopySrc,
                           bytes);
    }
    const Kernel* kernel(const std::string& name, uint32_t lanes, std::span<const Constant> constants,
                         std::span<const std::string_view> files) override;
    bool lost() const { return lost_; }
    std::unique_ptr<Bindings> bind(const Buffers& buffers) override;
    void write(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) override;
    void copy(const Buffer& from, const Buffer& to, uint64_t bytes) override;
    void run(std::span<const Dispatch> dispatches) override;
    void read(const Buffer& from, uint64_t offset, std::span<std::byte> bytes) override;

private:
    std::unique_ptr<WebGpuBuffer> make_buffer(WGPUBufferUsage usage, uint64_t bytes);
    template <class Encode>
    void submit(const Encode& encode);
    // Throws what the device has reported since it was last asked.
    void check();
    void report(std::string what) {
        const std::lock_guard lock(reports_);
        if (failure_.empty()) failure_ = std::move(what);
    }

    const Calls wgpu_;
    Owned<WGPUInstance> instance_;
    Owned<WGPUAdapter> adapter_;
    Owned<WGPUDevice> device_;
    Owned<WGPUQueue> queue_;
    Owned<WGPUBindGroupLayout> layout_;
    Owned<WGPUPipelineLayout> pipelines_;
    std::map<std::string, std::unique_ptr<Kernel>> kernels_;  // by source
    std::unique_ptr<WebGpuBuffer> staging_;
    Limits limits_{};
    std::string name_;
    std::mutex reports_;
    std::string failure_;
    std::atomic<bool> lost_{false};
};

WebGpuDevice::WebGpuDevice(const char* library) : wgpu_(load(library)) {
    instance_ = {wgpu_.CreateInstance(nullptr), wgpu_.InstanceRelease};

    struct Found {
        WGPUAdapter adapter = nullptr;
        WGPUDevice device = nullptr;
        std::string message;
        bool answered = false;
    } found;
    const auto wait = [&] {
        while (!found.answered) wgpu_.InstanceProcessEvents(instance_);
        found.answered = false;
    };
    WGPURequestAdapterOptions wanted{};
    wanted.powerPreference = WGPUPowerPreference_HighPerformance;
    wanted.featureLevel = WGPUFeatureLevel_Core;
    wgpu_.InstanceRequestAdapter(
        instance_, &wanted,
        {.nextInChain = nullptr,
         .mode = WGPUCallbackMode_AllowProcessEvents,
         .callback =
             [](WGPURequestAdapterStatus, WGPUAdapter adapter, WGPUStringView message, void* to, void*) {
                 auto& out = *static_cast<Found*>(to);
                 out.adapter = adapter;
                 out.message = text(message);
                 out.answered = true;
             },
         .userdata1 = &found,
         .userdata2 = nullptr});
    wait();
    if (!found.adapter)
        throw Error(Status::unsupported, "this machine has no graphics processor that WebGPU can use (" +
                                             found.message + "): compute on the processor");
    adapter_ = {found.adapter, wgpu_.AdapterRelease};
    WGPUAdapterInfo info{};
    if (wgpu_.AdapterGetInfo(adapter_, &info) == WGPUStatus_Success) {
        name_ = text(info.device);
        wgpu_.AdapterInfoFreeMembers(info);
    }

    // All that the adapter can: its limits are what pages are cut to.
    WGPULimits limits{};
    wgpu_.AdapterGetLimits(adapter_, &limits);
    limits_ = {.buffer_bytes = std::min(limits.maxStorageBufferBindingSize, limits.maxBufferSize) / 256 * 256,
               .workgroups = limits.maxComputeWorkgroupsPerDimension};
    WGPUDeviceDescriptor descriptor{};
    descriptor.requiredLimits = &limits;
    descriptor.deviceLostCallbackInfo = {
        .nextInChain = nullptr,
        .mode = WGPUCallbackMode_AllowSpontaneous,
        .callback =
            [](WGPUDevice const*, WGPUDeviceLostReason reason, WGPUStringView message, void* to, void*) {
                if (reason == WGPUDeviceLostReason_Destroyed) return;
                auto& device = *static_cast<WebGpuDevice*>(to);
                device.lost_ = true;
                device.report("the graphics processor was lost: " + text(message));
            },
        .userdata1 = this,
        .userdata2 = nullptr};
    descriptor.uncapturedErrorCallbackInfo = {
        .nextInChain = nullptr,
        .callback =
            [](WGPUDevice const*, WGPUErrorType, WGPUStringView message, void* to, void*) {
                static_cast<WebGpuDevice*>(to)->report("the graphics processor refused: " + text(message));
            },
        .userdata1 = this,
        .userdata2 = nullptr};
    wgpu_.AdapterRequestDevice(
        adapter_, &descriptor,
        {.nextInChain = nullptr,
         .mode = WGPUCallbackMode_AllowProcessEvents,
         .callback =
             [](WGPURequestDeviceStatus, WGPUDevice device, WGPUStringView message, void* to, void*) {
                 auto& out = *static_cast<Found*>(to);
                 out.device = device;
                 out.message = text(message);
                 out.answered = true;
             },
         .userdata1 = &found,
         .userdata2 = nullptr});
    wait();
    if (!found.device)
        throw Error(Status::unsupported, "the graphics processor " + name_ + " cannot be opened (" +
                                             found.message + "): compute on the processor");
    device_ = {found.device, wgpu_.DeviceRelease};
    queue_ = {wgpu_.DeviceGetQueue(device_), wgpu_.QueueRelease};

    std::array<WGPUBindGroupLayoutEntry, 6> entries{};
    for (uint32_t i = 0; i < entries.size(); ++i) {
        entries[i].binding = i;
        entries[i].visibility = WGPUShaderStage_Compute;
        entries[i].buffer.type = i == 0   ? WGPUBufferBindingType_Uniform
                                 : i <= 3 ? WGPUBufferBindingType_ReadOnlyStorage
                                          : WGPUBufferBindingType_Storage;
        entries[i].buffer.hasDynamicOffset = i == 0;
    }
    WGPUBindGroupLayoutDescriptor layout{};
    layout.entryCount = entries.size();
    layout.entries = entries.data();
    layout_ = {wgpu_.DeviceCreateBindGroupLayout(device_, &layout), wgpu_.BindGroupLayoutRelease};
    WGPUPipelineLayoutDescriptor pipelines{};
    const WGPUBindGroupLayout groups[] = {layout_};
    pipelines.bindGroupLayoutCount = 1;
    pipelines.bindGroupLayouts = groups;
    pipelines_ = {wgpu_.DeviceCreatePipelineLayout(device_, &pipelines), wgpu_.PipelineLayoutRelease};
    staging_ = make_buffer(WGPUBufferUsage_MapRead | WGPUBufferUsage_CopyDst, kTransfer);
}

std::unique_ptr<WebGpuBuffer> WebGpuDevice::make_buffer(WGPUBufferUsage usage, uint64_t bytes) {
    WGPUBufferDescriptor descriptor{};
    descriptor.usage = usage;
    descriptor.size = bytes;
    auto out = std::make_unique<WebGpuBuffer>();
    out->handle = {wgpu_.DeviceCreateBuffer(device_, &descriptor), wgpu_.BufferRelease};
    out->bytes = bytes;
    check();
    return out;
}

const Kernel* WebGpuDevice::kernel(const std::string& name, uint32_t lanes,
                                   std::span<const Constant> constants,
                                   std::span<const std::string_view> files) {
    const std::string source = wgsl_source(lanes, constants, files);
    if (const auto known = kernels_.find(source); known != kernels_.end()) return known->second.get();
    WGPUShaderSourceWGSL wgsl{};
    wgsl.chain.sType = WGPUSType_ShaderSourceWGSL;
    wgsl.code = view(source);
    WGPUShaderModuleDescriptor module{};
    module.nextInChain = &wgsl.chain;
    module.label = view(name);
    const Owned<WGPUShaderModule> compiled(wgpu_.DeviceCreateShaderModule(device_, &module),
                                           wgpu_.ShaderModuleRelease);
    check();
    const std::string entry = "main";
    WGPUComputePipelineDescriptor descriptor{};
    descriptor.label = view(name);
    descriptor.layout = pipelines_;
    descriptor.compute.module = compiled;
    descriptor.compute.entryPoint = view(entry);
    auto out = std::make_unique<WebGpuKernel>();
    out->handle = {wgpu_.DeviceCreateComputePipeline(device_, &descriptor), wgpu_.ComputePipelineRelease};
    check();
    return (kernels_[source] = std::move(out)).get();
}

std::unique_ptr<Bindings> WebGpuDevice::bind(const Buffers& buffers) {
    const Buffer* all[] = {&buffers.params,  &buffers.rows,  &buffers.vectors,
                           &buffers.weights, &buffers.arena, &buffers.cells};
    std::array<WGPUBindGroupEntry, 6> entries{};
    for (uint32_t i = 0; i < entries.size(); ++i) {
        entries[i].binding = i;
        entries[i].buffer = own(*all[i]).handle;
        entries[i].size = i == 0 ? kParamsBytes : own(*all[i]).bytes;
    }
    WGPUBindGroupDescriptor descriptor{};
    descriptor.layout = layout_;
    descriptor.entryCount = entries.size();
    descriptor.entries = entries.data();
    auto out = std::make_unique<WebGpuBindings>();
    out->handle = {wgpu_.DeviceCreateBindGroup(device_, &descriptor), wgpu_.BindGroupRelease};
    check();
    return out;
}

void WebGpuDevice::write(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto piece = bytes.first(std::min<size_t>(bytes.size(), kTransfer));
        wgpu_.QueueWriteBuffer(queue_, own(to).handle, offset, piece.data(), piece.size());
        offset += piece.size();
        bytes = bytes.subspan(piece.size());
        if (bytes.empty()) break;
        wgpu_.QueueSubmit(queue_, 0, nullptr);  // so that what was copied aside is free again
        wgpu_.DevicePoll(device_, true, nullptr);
    }
    check();
}

template <class Encode>
void WebGpuDevice::submit(const Encode& encode) {
    const Owned<WGPUCommandEncoder> encoder(wgpu_.DeviceCreateCommandEncoder(device_, nullptr),
                                            wgpu_.CommandEncoderRelease);
    encode(encoder);
    const Owned<WGPUCommandBuffer> commands(wgpu_.CommandEncoderFinish(encoder, nullptr),
                                            wgpu_.CommandBufferRelease);
    check();
    const WGPUCommandBuffer all[] = {commands};
    wgpu_.QueueSubmit(queue_, 1, all);
    check();
}

void WebGpuDevice::copy(const Buffer& from, const Buffer& to, uint64_t bytes) {
    submit([&](WGPUCommandEncoder encoder) {
        wgpu_.CommandEncoderCopyBufferToBuffer(encoder, own(from).handle, 0, own(to).handle, 0, bytes);
    });
}

void WebGpuDevice::run(std::span<const Dispatch> dispatches) {
    submit([&](WGPUCommandEncoder encoder) {
        const Owned<WGPUComputePassEncoder> pass(wgpu_.CommandEncoderBeginComputePass(encoder, nullptr),
                                                 wgpu_.ComputePassEncoderRelease);
        const Kernel* kernel = nullptr;
        for (const Dispatch& each : dispatches) {
            if (each.kernel != kernel)
                wgpu_.ComputePassEncoderSetPipeline(pass,
                                                    static_cast<const WebGpuKernel*>(each.kernel)->handle);
            kernel = each.kernel;
            const uint32_t offset = each.params * kParamsBytes;
            wgpu_.ComputePassEncoderSetBindGroup(
                pass, 0, static_cast<const WebGpuBindings*>(each.bindings)->handle, 1, &offset);
            wgpu_.ComputePassEncoderDispatchWorkgroups(pass, each.x, each.y, each.z);
        }
        wgpu_.ComputePassEncoderEnd(pass);
    });
}

void WebGpuDevice::read(const Buffer& from, uint64_t offset, std::span<std::byte> bytes) {
    while (!bytes.empty()) {
        const auto piece = bytes.first(std::min<size_t>(bytes.size(), kTransfer));
        submit([&](WGPUCommandEncoder encoder) {
            wgpu_.CommandEncoderCopyBufferToBuffer(encoder, own(from).handle, offset, staging_->handle, 0,
                                                   piece.size());
        });
        struct Answer {
            bool given = false, mapped = false;
        } answer;
        wgpu_.BufferMapAsync(staging_->handle, WGPUMapMode_Read, 0, piece.size(),
                             {.nextInChain = nullptr,
                              .mode = WGPUCallbackMode_AllowProcessEvents,
                              .callback =
                                  [](WGPUMapAsyncStatus status, WGPUStringView, void* to, void*) {
                                      *static_cast<Answer*>(to) = {true,
                                                                   status == WGPUMapAsyncStatus_Success};
                                  },
                              .userdata1 = &answer,
                              .userdata2 = nullptr});
        while (!answer.given) {
            wgpu_.DevicePoll(device_, true, nullptr);
            wgpu_.InstanceProcessEvents(instance_);
        }
        check();
        if (!answer.mapped) throw BackendFailure("the graphics processor's results cannot be read");
        std::memcpy(piece.data(), wgpu_.BufferGetConstMappedRange(staging_->handle, 0, piece.size()),
                    piece.size());
        wgpu_.BufferUnmap(staging_->handle);
        offset += piece.size();
        bytes = bytes.subspan(piece.size());
    }
}

void WebGpuDevice::check() {
    const std::lock_guard lock(reports_);
    if (!failure_.empty()) throw BackendFailure(std::exchange(failure_, {}));
}

}  // namespace

// From wgpu-native's library at options.webgpu_library (UTF-8; nullptr: the loader's own search).
std::shared_ptr<Device> open_device(const edgekit_model_options& options) {
    const char* library = options.webgpu_library;
    // Never destroyed: its library's threads would outlive it when the process ends.
    static auto& devices = *new std::map<std::string, std::shared_ptr<WebGpuDevice>>;
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    auto& device = devices[library ? library : ""];
    if (!device || device->lost()) device = std::make_shared<WebGpuDevice>(library);
    return device;
}

}  // namespace edgekit::gpu
