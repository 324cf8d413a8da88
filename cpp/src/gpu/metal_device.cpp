// Metal, through Apple's metal-cpp. Memory is the processor's too: what is read needs no copy first, and the
// matrices of a mapped file are read where they lie.

#define NS_PRIVATE_IMPLEMENTATION
#define MTL_PRIVATE_IMPLEMENTATION
#include <Foundation/Foundation.hpp>
// (order matters)
#include <Metal/Metal.hpp>

#include <unistd.h>

#include <array>
#include <cstring>
#include <map>

#include "error.h"
#include "gpu/device.h"
#include "gpu/metal_source.h"

namespace edgekit::gpu {

namespace {

// Of temporary objects, which Metal's calls leave to the innermost one.
class Pool {
public:
    Pool() : pool_(NS::AutoreleasePool::alloc()->init()) {}
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    ~Pool() { pool_->release(); }

private:
    NS::AutoreleasePool* const pool_;
};

NS::String* text(const std::string& utf8) { return NS::String::string(utf8.c_str(), NS::UTF8StringEncoding); }
std::string text(const NS::Error* error) {
    return error ? error->localizedDescription()->utf8String() : "no reason is told";
}

struct MetalBuffer final : Buffer {
    NS::SharedPtr<MTL::Buffer> handle;
    std::byte* bytes() const { return static_cast<std::byte*>(handle->contents()); }
};
struct MetalKernel final : Kernel {
    NS::SharedPtr<MTL::ComputePipelineState> pipeline;
    uint32_t lanes = 0;
};
struct MetalBindings final : Bindings {
    std::array<const MTL::Buffer*, 6> buffers{};
};

const MetalBuffer& own(const Buffer& buffer) { return static_cast<const MetalBuffer&>(buffer); }

class MetalDevice final : public Device {
public:
    MetalDevice();

    const Limits& limits() const override { return limits_; }
    const std::string& name() const override { return name_; }
    std::unique_ptr<Buffer> buffer(Use use, uint64_t bytes) override;
    std::unique_ptr<Buffer> adopt(std::span<const std::byte> bytes) override;
    const Kernel* kernel(const std::string& name, uint32_t lanes, std::span<const Constant> constants,
                         std::span<const std::string_view> files) override;
    std::unique_ptr<Bindings> bind(const Buffers& buffers) override;
    void write(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) override;
    void copy(const Buffer& from, const Buffer& to, uint64_t bytes) override;
    void run(std::span<const Dispatch> dispatches) override;
    void read(const Buffer& from, uint64_t offset, std::span<std::byte> bytes) override;

private:
    // Waits for what was run. Throws what it has failed with, as when the application is in the background.
    void finish();

    NS::SharedPtr<MTL::Device> device_;
    NS::SharedPtr<MTL::CommandQueue> queue_;
    NS::SharedPtr<MTL::CommandBuffer> running_;
    std::map<std::string, std::unique_ptr<Kernel>> kernels_;  // by source
    Limits limits_{};
    std::string name_;
};

MetalDevice::MetalDevice() : device_(NS::TransferPtr(MTL::CreateSystemDefaultDevice())) {
    const Pool pool;
    if (!device_)
        throw Error(Status::unsupported, "this device has no graphics processor: compute on the processor");
    name_ = device_->name()->utf8String();
    // The first whose simdgroups add up, and have 32 lanes: A14, M1.
    if (!device_->supportsFamily(MTL::GPUFamilyApple7))
        throw Error(Status::unsupported, "the graphics processor " + name_ +
                                             " is older than A14 and M1: compute on the processor");
    queue_ = NS::TransferPtr(device_->newCommandQueue());
    if (!queue_)
        throw Error(Status::unsupported,
                    "the graphics processor " + name_ + " takes no commands: compute on the processor");
    limits_ = {.buffer_bytes = device_->maxBufferLength(), .workgroups = UINT32_MAX};
}

std::unique_ptr<Buffer> MetalDevice::buffer(Use, uint64_t bytes) {
    auto out = std::make_unique<MetalBuffer>();
    out->handle = NS::TransferPtr(device_->newBuffer(bytes, MTL::ResourceStorageModeShared));
    if (!out->handle)
        throw BackendFailure("the graphics processor has no room for " + std::to_string(bytes) + " bytes");
    std::memset(out->bytes(), 0, bytes);
    return out;
}

std::unique_ptr<Buffer> MetalDevice::adopt(std::span<const std::byte> bytes) {
    auto out = std::make_unique<MetalBuffer>();
    out->handle = NS::TransferPtr(
        device_->newBuffer(bytes.data(), bytes.size(), MTL::ResourceStorageModeShared, nullptr));
    return out->handle ? std::move(out) : nullptr;
}

const Kernel* MetalDevice::kernel(const std::string& name, uint32_t lanes,
                                  std::span<const Constant> constants,
                                  std::span<const std::string_view> files) {
    const std::string source = metal_source(lanes, constants, files);
    if (const auto known = kernels_.find(source); known != kernels_.end()) return known->second.get();
    const Pool pool;
    NS::Error* error = nullptr;
    const auto refuse = [&] {
        throw BackendFailure("the graphics processor refused the kernel " + name + ": " + text(error));
    };
    const auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
    options->setFastMathEnabled(false);  // roundings are the processor's
    const auto library = NS::TransferPtr(device_->newLibrary(text(source), options.get(), &error));
    if (!library) refuse();
    const auto function = NS::TransferPtr(library->newFunction(text("run")));
    if (!function) refuse();
    auto out = std::make_unique<MetalKernel>();
    out->lanes = lanes;
    out->pipeline = NS::TransferPtr(device_->newComputePipelineState(function.get(), &error));
    if (!out->pipeline || out->pipeline->maxTotalThreadsPerThreadgroup() < lanes ||
        out->pipeline->threadExecutionWidth() != kMetalSimd)
        refuse();
    return (kernels_[source] = std::move(out)).get();
}

std::unique_ptr<Bindings> MetalDevice::bind(const Buffers& buffers) {
    auto out = std::make_unique<MetalBindings>();
    out->buffers = {own(buffers.params).handle.get(),  own(buffers.rows).handle.get(),
                    own(buffers.vectors).handle.get(), own(buffers.weights).handle.get(),
                    own(buffers.arena).handle.get(),   own(buffers.cells).handle.get()};
    return out;
}

void MetalDevice::write(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) {
    finish();
    std::memcpy(own(to).bytes() + offset, bytes.data(), bytes.size());
}

void MetalDevice::copy(const Buffer& from, const Buffer& to, uint64_t bytes) {
    finish();
    std::memcpy(own(to).bytes(), own(from).bytes(), bytes);
}

void MetalDevice::run(std::span<const Dispatch> dispatches) {
    finish();
    const Pool pool;
    running_ = NS::RetainPtr(queue_->commandBuffer());
    MTL::ComputeCommandEncoder* const encoder = running_ ? running_->computeCommandEncoder() : nullptr;
    if (!encoder) throw BackendFailure("the graphics processor takes no commands");
    const Kernel* kernel = nullptr;
    const Bindings* bindings = nullptr;
    for (const Dispatch& each : dispatches) {
        const auto& own_kernel = *static_cast<const MetalKernel*>(each.kernel);
        if (each.kernel != kernel) encoder->setComputePipelineState(own_kernel.pipeline.get());
        kernel = each.kernel;
        const auto& buffers = static_cast<const MetalBindings*>(each.bindings)->buffers;
        for (NS::UInteger i = 0; each.bindings != bindings && i < buffers.size(); ++i)
            encoder->setBuffer(buffers[i], 0, i);
        bindings = each.bindings;
        encoder->setBufferOffset(each.params * kParamsBytes, 0);
        encoder->dispatchThreadgroups(MTL::Size::Make(each.x, each.y, each.z),
                                      MTL::Size::Make(own_kernel.lanes, 1, 1));
    }
    encoder->endEncoding();
    running_->commit();
}

void MetalDevice::read(const Buffer& from, uint64_t offset, std::span<std::byte> bytes) {
    finish();
    std::memcpy(bytes.data(), own(from).bytes() + offset, bytes.size());
}

void MetalDevice::finish() {
    if (!running_) return;
    const Pool pool;
    const auto commands = std::exchange(running_, {});
    commands->waitUntilCompleted();
    if (commands->status() != MTL::CommandBufferStatusCompleted)
        throw BackendFailure("the graphics processor stopped: " + text(commands->error()));
}

}  // namespace

std::shared_ptr<Device> open_device(const edgekit_model_options&) {
    static std::mutex mutex;
    static std::weak_ptr<Device> shared;
    const std::lock_guard lock(mutex);
    auto device = shared.lock();
    if (!device) shared = device = std::make_shared<MetalDevice>();
    return device;
}

}  // namespace edgekit::gpu
