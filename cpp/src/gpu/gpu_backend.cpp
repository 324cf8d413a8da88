// The GPU as a backend: a program over a device, and cells in its memory.

#include <mutex>

#include "backend/backend.h"
#include "gpu/program.h"

namespace edgekit {

namespace {

using gpu::Buffer;
using gpu::Device;
using gpu::Program;

struct Gpu {
    std::shared_ptr<Device> device;
    std::unique_ptr<Program> program;
};

class GpuContext final : public Context {
public:
    GpuContext(Gpu& gpu, uint64_t bytes) : gpu_(gpu), bytes_(bytes) {
        const std::lock_guard lock(gpu.device->turn);
        cells_ = gpu.device->buffer(Device::Use::storage, bytes);
        bindings_ = gpu.program->bind(*cells_);
    }

    void save_cells(CellRange range, const Put& put) const override {
        std::vector<std::byte> bytes(range.size);
        {
            const std::lock_guard lock(gpu_.device->turn);
            gpu_.device->read(*cells_, range.offset, bytes);
        }
        put(bytes);
    }
    void load_cells(CellRange range, const std::byte* bytes) override {
        const std::lock_guard lock(gpu_.device->turn);
        gpu_.device->write(*cells_, range.offset, {bytes, static_cast<size_t>(range.size)});
    }
    void copy_cells(const Context& from) override {
        const std::lock_guard lock(gpu_.device->turn);
        gpu_.device->copy(*static_cast<const GpuContext&>(from).cells_, *cells_, bytes_);
    }
    const Program::TextBindings& bindings() const { return bindings_; }

private:
    Gpu& gpu_;
    const uint64_t bytes_;
    std::unique_ptr<Buffer> cells_;
    Program::TextBindings bindings_;
};

class GpuBackend final : public Backend {
public:
    GpuBackend(const ModelSpec& spec, const Weights& weights, std::shared_ptr<Device> device) : spec_(spec) {
        gpu_.device = std::move(device);
        const std::lock_guard lock(gpu_.device->turn);
        gpu_.program = std::make_unique<Program>(spec, weights, *gpu_.device);
    }

    uint32_t threads() const override { return 1; }
    const Kernels& kernels() const override { return *find_kernels(nullptr); }
    std::unique_ptr<Context> open(const CacheLayout& layout) override {
        if (layout.options().type == KvType::int4)
            throw Error(
                Status::unsupported,
                "the GPU keeps keys and values as f32, f16 or int8, not as int4: use the cpu backend");
        if (layout.bytes() > gpu_.device->limits().buffer_bytes)
            throw Error(Status::out_of_memory,
                        "a cache of " + std::to_string(layout.bytes()) + " bytes is more than " +
                            gpu_.device->name() + " reads at a time (" +
                            std::to_string(gpu_.device->limits().buffer_bytes) + "): use a smaller window");
        return std::make_unique<GpuContext>(gpu_, layout.bytes());
    }
    bool forward(std::span<const Part> parts, Output output, float* out, const GiveUp& give_up) override {
        const std::lock_guard lock(gpu_.device->turn);
        const size_t width = output == Output::logits ? spec_.vocab_size : spec_.d_model;
        for (const Part& part : parts) {
            const auto& context = static_cast<const GpuContext&>(part.context);
            for (uint32_t done = 0; done < part.rows;) {
                if (give_up && give_up()) return false;
                Part piece = part;
                piece.rows = std::min(part.rows - done, gpu::kPassRows);
                piece.position += done;
                if (part.ids) piece.ids += done;
                if (part.embeddings) piece.embeddings += size_t{done} * spec_.d_model;
                done += piece.rows;
                const uint32_t after = part.rows - done;  // rows of the part beyond this piece
                piece.wanted = part.wanted > after ? std::min(part.wanted - after, piece.rows) : 0;
                gpu_.program->run(piece, context.bindings(), output, out);
                out += piece.wanted * width;
            }
        }
        return true;
    }

private:
    const ModelSpec& spec_;
    Gpu gpu_;
};

}  // namespace

const BackendKind kGpuBackend{
    .name = "gpu",
    .measure = [](const ModelSpec& spec, const Weights& weights, const CacheLayout& layout, uint32_t)
        -> ContextBytes { return {.cache = layout.bytes(), .shared = Program::shared_bytes(spec, weights)}; },
    .open = [](const ModelSpec& spec, const Weights& weights,
               const edgekit_model_options& options) -> std::unique_ptr<Backend> {
        return std::make_unique<GpuBackend>(spec, weights, gpu::open_device(options));
    }};

}  // namespace edgekit
