// WebGPU in a browser, through what the page's JavaScript gives (runtimes/web/src/gpu_device.ts). Things of
// the device are numbers here, 0 for none. What it reports arrives between calls: `failure` has the first of
// it.

#include <map>
#include <vector>

#include "error.h"
#include "gpu/wgsl_source.h"

extern "C" {
// Bytes of a buffer and workgroups along an axis; returns bytes of the name. False: there is no device.
bool edgekit_gpu_describe(double limits[2], char* name, uint32_t capacity);
uint32_t edgekit_gpu_buffer(bool params, double bytes);
uint32_t edgekit_gpu_kernel(const char* name, size_t name_size, const char* source, size_t source_size);
uint32_t edgekit_gpu_bindings(const uint32_t buffers[6], uint32_t params_bytes);
void edgekit_gpu_free(uint32_t thing);
void edgekit_gpu_write(uint32_t buffer, double offset, const std::byte* bytes, size_t size);
void edgekit_gpu_copy(uint32_t from, uint32_t to, double bytes);
// Of each dispatch kernel, bindings, offset of its parameters, x, y, z.
void edgekit_gpu_run(const uint32_t* dispatches, size_t count);
// Whether something was reported, which `message` then says.
bool edgekit_gpu_failure(char* message, uint32_t capacity);
// These wait: the caller's stack is put aside meanwhile.
void edgekit_gpu_read(uint32_t buffer, double offset, std::byte* bytes, size_t size);
void edgekit_gpu_settle();  // until all that was submitted is done
}

namespace edgekit::gpu {

namespace {

// Bytes that are written at a time: what a device keeps a second time meanwhile.
constexpr size_t kTransfer = size_t{16} << 20;

template <class Base>
struct Thing final : Base {
    explicit Thing(uint32_t number) : number(number) {}
    Thing(const Thing&) = delete;
    Thing& operator=(const Thing&) = delete;
    ~Thing() override { edgekit_gpu_free(number); }
    const uint32_t number;
};

template <class Base>
uint32_t number_of(const Base& thing) {
    return static_cast<const Thing<Base>&>(thing).number;
}

class BrowserDevice final : public Device {
public:
    BrowserDevice() {
        double limits[2];
        char name[256] = {};
        if (!edgekit_gpu_describe(limits, name, sizeof name))
            throw Error(Status::unsupported,
                        "this page has no graphics processor for the engine: compute on the processor");
        limits_ = {.buffer_bytes = static_cast<uint64_t>(limits[0]),
                   .workgroups = static_cast<uint32_t>(limits[1])};
        name_ = name;
    }

    const Limits& limits() const override { return limits_; }
    const std::string& name() const override { return name_; }
    std::unique_ptr<Buffer> buffer(Use use, uint64_t bytes) override {
        return made<Buffer>(edgekit_gpu_buffer(use == Use::params, static_cast<double>(bytes)));
    }
    const Kernel* kernel(const std::string& name, uint32_t lanes, std::span<const Constant> constants,
                         std::span<const std::string_view> files) override {
        const std::string source = wgsl_source(lanes, constants, files);
        std::unique_ptr<Kernel>& kernel = kernels_[source];
        if (!kernel)
            kernel = made<Kernel>(edgekit_gpu_kernel(name.data(), name.size(), source.data(), source.size()));
        return kernel.get();
    }
    std::unique_ptr<Bindings> bind(const Buffers& buffers) override {
        const uint32_t numbers[] = {number_of(buffers.params),  number_of(buffers.rows),
                                    number_of(buffers.vectors), number_of(buffers.weights),
                                    number_of(buffers.arena),   number_of(buffers.cells)};
        return made<Bindings>(edgekit_gpu_bindings(numbers, kParamsBytes));
    }
    void write(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) override {
        while (!bytes.empty()) {
            const auto piece = bytes.first(std::min(bytes.size(), kTransfer));
            edgekit_gpu_write(number_of(to), static_cast<double>(offset), piece.data(), piece.size());
            offset += piece.size();
            bytes = bytes.subspan(piece.size());
            if (!bytes.empty()) edgekit_gpu_settle();  // so that what was copied aside is free again
        }
        check();
    }
    void copy(const Buffer& from, const Buffer& to, uint64_t bytes) override {
        edgekit_gpu_copy(number_of(from), number_of(to), static_cast<double>(bytes));
        check();
    }
    void run(std::span<const Dispatch> dispatches) override {
        numbers_.clear();
        for (const Dispatch& each : dispatches)
            numbers_.insert(numbers_.end(), {number_of(*each.kernel), number_of(*each.bindings),
                                             each.params * kParamsBytes, each.x, each.y, each.z});
        edgekit_gpu_run(numbers_.data(), dispatches.size());
        check();
    }
    void read(const Buffer& from, uint64_t offset, std::span<std::byte> bytes) override {
        edgekit_gpu_read(number_of(from), static_cast<double>(offset), bytes.data(), bytes.size());
        check();
    }

private:
    template <class Base>
    static std::unique_ptr<Base> made(uint32_t number) {
        check();
        return std::make_unique<Thing<Base>>(number);
    }
    static void check() {
        char message[512] = {};
        if (edgekit_gpu_failure(message, sizeof message)) throw BackendFailure(message);
    }

    Limits limits_{};
    std::string name_;
    std::map<std::string, std::unique_ptr<Kernel>> kernels_;  // by source
    std::vector<uint32_t> numbers_;                           // of what is run
};

}  // namespace

// The page's: it opens another engine after one was lost.
std::shared_ptr<Device> open_device(const edgekit_model_options&) {
    static const auto device = std::make_shared<BrowserDevice>();
    return device;
}

}  // namespace edgekit::gpu
