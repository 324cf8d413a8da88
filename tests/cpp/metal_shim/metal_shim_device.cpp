// Metal's kernels, run as C++: cpp/src/gpu/msl/*.metal are compiled by the system's C++ compiler against the
// metal_stdlib beside this file, and a dispatch runs its threadgroups one after another, lanes as fibers.
// Slow and strict: lanes that wait in different places, two that touch a word without a barrier between them,
// words outside the buffers, and threadgroup memory that nobody has written are errors.

#include "metal_shim_device.h"

#include <dlfcn.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <unordered_map>
#include <vector>

#include "gpu/device.h"
#include "gpu/metal_source.h"
#include "metal_shim.h"

namespace edgekit::gpu {

MetalShimControl metal_shim;

namespace {

namespace fs = std::filesystem;

constexpr uint32_t kMaxLanes = 256, kUnit = 2, kLine = 128;
constexpr size_t kStack = size_t{64} << 10, kThreadgroupMemory = size_t{32} << 10;

[[noreturn]] void wrong(const std::string& what);

// Who touched two bytes last. Phases, between barriers, count on over all threadgroups.
struct Touch {
    uint32_t written = 0, read = 0;  // phases; 0: never
    uint16_t writer = 0, reader = 0;
};
constexpr uint16_t kSeveral = UINT16_MAX;

struct ShimBuffer final : Buffer {
    explicit ShimBuffer(uint64_t size) : own(size), bytes(own), touched(size / kUnit) {}
    explicit ShimBuffer(std::span<std::byte> bytes) : bytes(bytes) {}
    std::vector<std::byte> own;
    std::span<std::byte> bytes;
    std::vector<Touch> touched;
};
struct ShimBindings final : Bindings {
    std::array<ShimBuffer*, 6> buffers{};
};
using Entry = void (*)(const void* params, void* rows, void* vectors, void* weights, void* arena, void* cells,
                       uint32_t x, uint32_t y, uint32_t z, uint32_t lane);
struct ShimKernel final : Kernel {
    std::string name, source;
    uint32_t lanes = 0;
    mutable Entry entry = nullptr;
    mutable std::span<std::byte> threadgroup;
};

const ShimBuffer& own(const Buffer& buffer) { return static_cast<const ShimBuffer&>(buffer); }
ShimBuffer& changed(const Buffer& buffer) { return const_cast<ShimBuffer&>(own(buffer)); }

// ---- a threadgroup ----------------------------------------------------------------------------------------

struct Fiber {
    enum class State : uint8_t { ready, simdgroup, threadgroup, done } state = State::done;
    const void* place = nullptr;  // where it waits
    bool begun = false;
    uint32_t exchanges = 0;
    ucontext_t context{};
    jmp_buf resume{};
    std::vector<char> stack;
};

struct Machine {
    std::vector<Fiber> fibers{kMaxLanes};
    uint32_t lane = 0;
    ucontext_t caller{};
    jmp_buf back{};
    std::string error;

    const ShimKernel* kernel = nullptr;
    const ShimBindings* bindings = nullptr;
    const std::byte* params = nullptr;
    std::array<uint32_t, 3> group{};
    uint32_t phase = 0, group_phase = 0, dispatch_phase = 0;
    std::vector<Touch> threadgroup;
    alignas(16) char slots[2][kMaxLanes][kMetalSlot];
    std::vector<std::unordered_map<uint64_t, std::array<uint64_t, 2>>> lines{kMaxLanes / kMetalSimd};

    void dispatch(const Dispatch& each);
    void run_group();
    void switch_to(uint32_t to);
    void wait(Fiber::State state, const void* place);
    void access(const std::byte* at, size_t size, bool writes);
    void touch(Touch& touched, bool writes, bool shared);
    void count(size_t buffer, uint64_t offset, size_t size);
    [[noreturn]] void refuse(std::string what);
};
Machine machine;

void wrong(const std::string& what) {
    throw Error(Status::internal, "kernel " + machine.kernel->name + ": " + what);
}

// From a fiber, which no exception may leave.
void Machine::refuse(std::string what) {
    error = std::move(what);
    fibers[lane].begun = false;
    _longjmp(back, 1);
}

void run_lanes() {
    for (;;) {
        const auto& buffers = machine.bindings->buffers;
        machine.kernel->entry(machine.params, buffers[1]->bytes.data(), buffers[2]->bytes.data(),
                              buffers[3]->bytes.data(), buffers[4]->bytes.data(), buffers[5]->bytes.data(),
                              machine.group[0], machine.group[1], machine.group[2], machine.lane);
        machine.wait(Fiber::State::done, nullptr);
    }
}

// [[gnu::noinline]]: setjmp's caller has to be there when it returns again.
[[gnu::noinline]] void Machine::switch_to(uint32_t to) {
    lane = to;
    if (_setjmp(back)) return;
    Fiber& fiber = fibers[to];
    if (fiber.begun) _longjmp(fiber.resume, 1);
    fiber.begun = true;
    fiber.stack.resize(kStack);
    getcontext(&fiber.context);
    fiber.context.uc_stack = {fiber.stack.data(), 0, kStack};
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_lanes, 0);
    setcontext(&fiber.context);
}

[[gnu::noinline]] void Machine::wait(Fiber::State state, const void* place) {
    Fiber& fiber = fibers[lane];
    fiber.state = state;
    fiber.place = place;
    if (!_setjmp(fiber.resume)) _longjmp(back, 1);
}

void Machine::run_group() {
    group_phase = ++phase;
    const uint32_t lanes = kernel->lanes;
    std::memset(kernel->threadgroup.data(), 0xff, kernel->threadgroup.size());
    threadgroup.assign(kernel->threadgroup.size() / kUnit, {});
    for (uint32_t i = 0; i < lanes; ++i) fibers[i].state = Fiber::State::ready;
    const auto waits = [&](uint32_t begin, uint32_t end, Fiber::State state) {
        return std::all_of(fibers.begin() + begin, fibers.begin() + end, [&](const Fiber& fiber) {
            return fiber.state == state && fiber.place == fibers[begin].place;
        });
    };
    const auto release = [&](uint32_t begin, uint32_t end) {
        for (uint32_t i = begin; i < end; ++i) fibers[i].state = Fiber::State::ready;
    };
    while (!waits(0, lanes, Fiber::State::done)) {
        bool moved = false;
        for (uint32_t i = 0; i < lanes; ++i) {
            if (fibers[i].state != Fiber::State::ready) continue;
            moved = true;
            switch_to(i);
            if (!error.empty()) {
                for (Fiber& fiber : fibers) fiber.begun = false;
                wrong(std::exchange(error, {}));
            }
        }
        for (uint32_t i = 0; i < lanes; i += kMetalSimd)
            if (waits(i, i + kMetalSimd, Fiber::State::simdgroup)) release(i, i + kMetalSimd);
        if (waits(0, lanes, Fiber::State::threadgroup)) {
            ++phase;
            release(0, lanes);
        }
        if (!moved) {
            for (Fiber& fiber : fibers) fiber.begun = false;
            wrong("its lanes wait for one another in different places");
        }
    }
    for (auto& all : lines) {
        for (const auto& [line, bytes] : all) {
            MetalTraffic& traffic = metal_shim.traffic[line >> 56];
            traffic.bytes +=
                static_cast<uint64_t>(__builtin_popcountll(bytes[0]) + __builtin_popcountll(bytes[1]));
            ++traffic.lines;
        }
        all.clear();
    }
}

void Machine::touch(Touch& touched, bool writes, bool shared) {
    // In this phase by another lane, or in this dispatch by another threadgroup.
    const auto races = [&](uint32_t when, uint16_t who) {
        return (when == phase && who != lane) ||
               (!shared && when >= dispatch_phase && when < group_phase && when != 0);
    };
    if (races(touched.written, touched.writer) || (writes && races(touched.read, touched.reader)))
        refuse("lane " + std::to_string(lane) + (writes ? " writes" : " reads") + " what lane " +
               std::to_string(touched.written == phase ? touched.writer : touched.reader) +
               " touches, and nothing lies between");
    if (shared && !writes && touched.written == 0)
        refuse("threadgroup memory is read that was never written");
    if (writes) {
        touched.written = phase;
        touched.writer = static_cast<uint16_t>(lane);
    } else {
        touched.reader =
            touched.read == phase && touched.reader != lane ? kSeveral : static_cast<uint16_t>(lane);
        touched.read = phase;
    }
}

void Machine::count(size_t buffer, uint64_t offset, size_t size) {
    auto& all = lines[lane / kMetalSimd];
    for (uint64_t at = offset; at < offset + size; ++at)
        all[buffer << 56 | at / kLine][at % kLine / 64] |= uint64_t{1} << at % 64;
}

void Machine::access(const std::byte* at, size_t size, bool writes) {
    const auto within = [&](const void* begin, size_t bytes) {
        return at >= begin && at + size <= static_cast<const std::byte*>(begin) + bytes;
    };
    const Fiber& fiber = fibers[lane];
    if (within(fiber.stack.data(), fiber.stack.size()) || within(slots, sizeof slots)) return;
    if (within(kernel->threadgroup.data(), kernel->threadgroup.size())) {
        const auto offset = static_cast<size_t>(at - kernel->threadgroup.data());
        for (size_t i = offset / kUnit; i < (offset + size + kUnit - 1) / kUnit; ++i)
            touch(threadgroup[i], writes, true);
        return;
    }
    for (size_t i = 1; i < bindings->buffers.size(); ++i) {
        ShimBuffer& buffer = *bindings->buffers[i];
        if (!within(buffer.bytes.data(), buffer.bytes.size())) continue;
        const auto offset = static_cast<uint64_t>(at - buffer.bytes.data());
        if (metal_shim.counting) count(i, offset, size);
        if (i < 4) {
            if (writes) refuse("a write to a buffer that is only read");
            return;
        }
        for (uint64_t unit = offset / kUnit; unit < (offset + size + kUnit - 1) / kUnit; ++unit)
            touch(buffer.touched[unit], writes, false);
        return;
    }
    if (within(params, kParamsBytes)) {
        if (metal_shim.counting) count(0, static_cast<uint64_t>(at - params), size);
        return;
    }
    // Constants lie beside the code.
    constexpr ptrdiff_t kNear = 1 << 20;
    if (!writes && std::abs(at - reinterpret_cast<const std::byte*>(kernel->entry)) < kNear) return;
    std::string where =
        " " + std::to_string(at - reinterpret_cast<const std::byte*>(kernel->entry)) + " from the code,";
    for (const ShimBuffer* buffer : bindings->buffers)
        where += " " + std::to_string(at - buffer->bytes.data()) + "/" + std::to_string(buffer->bytes.size());
    refuse((writes ? "a write" : "a read") + std::string(" outside the buffers (places / sizes:") + where +
           ")");
}

const MetalShim kCalls{
    .lane = [] { return machine.lane; },
    .barrier = [] { machine.wait(Fiber::State::threadgroup, __builtin_return_address(0)); },
    .exchange = [](const void* mine, unsigned long size) -> const char* {
        const uint32_t lane = machine.lane;
        const auto& slots = machine.slots[machine.fibers[lane].exchanges++ % 2];
        std::memcpy(const_cast<char*>(slots[lane]), mine, size);
        machine.wait(Fiber::State::simdgroup, __builtin_return_address(0));
        return slots[lane / kMetalSimd * kMetalSimd];
    },
    .access = [](const void* at, unsigned long size,
                 bool writes) { machine.access(static_cast<const std::byte*>(at), size, writes); }};

// ---- kernels ----------------------------------------------------------------------------------------------

// Variables of the threadgroup: declared four spaces from the margin, and not pointers to const, which are
// members.
std::string with_threadgroup_memory(const std::string& source) {
    static const std::regex kDeclared("\n    threadgroup (?!const )");
    return std::regex_replace(source, kDeclared, "\n    [[gnu::section(\"threadgroup\")]] static ");
}

void compile(const ShimKernel& kernel) {
    char folder[] = "/tmp/metal_shim.XXXXXX";
    if (!mkdtemp(folder)) throw Error(Status::io_error, "no temporary folder");
    const fs::path path(folder);
    std::ofstream(path / "kernel.cpp") << with_threadgroup_memory(kernel.source) << R"(
extern "C" {
extern char __start_threadgroup[] __attribute__((weak, visibility("hidden")));
extern char __stop_threadgroup[] __attribute__((weak, visibility("hidden")));
char *metal_threadgroup[] = {__start_threadgroup, __stop_threadgroup};
void metal_run(const void *params, const uint *rows, const float *vectors, const uint4 *weights, float *arena, uint *cells,
               uint x, uint y, uint z, uint lane) {
    run(*(const Params *)params, rows, vectors, weights, arena, cells, uint3(x, y, z), lane);
}
}
)";
    const std::string command =
        std::string(EDGEKIT_SHIM_COMPILER) +
        " -std=c++17 -O1 -fPIC -fsanitize=thread -fno-strict-aliasing -fno-exceptions -Wall -Werror"
        " -Wno-attributes -Wno-unused-function -Wno-unused-variable -I" EDGEKIT_SHIM_FOLDER " -c " +
        folder + "/kernel.cpp -o " + folder + "/kernel.o && " + EDGEKIT_SHIM_COMPILER + " -shared " + folder +
        "/kernel.o -o " + folder + "/kernel.so";
    const int status = std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe): the device's turn
    void* library = status == 0 ? dlopen((path / "kernel.so").c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    fs::remove_all(path);
    if (!library) wrong(status == 0 ? dlerror() : "does not compile");  // NOLINT(concurrency-mt-unsafe)
    reinterpret_cast<void (*)(const MetalShim*)>(dlsym(library, "metal_set_shim"))(&kCalls);
    auto* const extent = static_cast<std::byte**>(dlsym(library, "metal_threadgroup"));
    if (extent[0]) kernel.threadgroup = {extent[0], extent[1]};
    if (kernel.threadgroup.size() > kThreadgroupMemory) wrong("more threadgroup memory than there is");
    kernel.entry = reinterpret_cast<Entry>(dlsym(library, "metal_run"));
}

void Machine::dispatch(const Dispatch& each) {
    kernel = static_cast<const ShimKernel*>(each.kernel);
    bindings = static_cast<const ShimBindings*>(each.bindings);
    if (!kernel->entry) compile(*kernel);
    params = bindings->buffers[0]->bytes.data() + size_t{each.params} * kParamsBytes;
    dispatch_phase = phase + 1;
    metal_shim.dispatches += 1;
    for (uint32_t z = 0; z < each.z; ++z)
        for (uint32_t y = 0; y < each.y; ++y)
            for (uint32_t x = 0; x < each.x; ++x) {
                group = {x, y, z};
                run_group();
            }
}

// ---- the device -------------------------------------------------------------------------------------------

class MetalShimDevice final : public Device {
public:
    const Limits& limits() const override { return limits_; }
    const std::string& name() const override { return name_; }
    std::unique_ptr<Buffer> buffer(Use, uint64_t bytes) override {
        called();
        return std::make_unique<ShimBuffer>(bytes);
    }
    std::unique_ptr<Buffer> adopt(std::span<const std::byte> bytes) override {
        called();
        return std::make_unique<ShimBuffer>(
            std::span(const_cast<std::byte*>(bytes.data()), bytes.size()));  // which no kernel may write
    }
    const Kernel* kernel(const std::string& name, uint32_t lanes, std::span<const Constant> constants,
                         std::span<const std::string_view> files) override {
        called();
        std::string source = metal_source(lanes, constants, files);
        if (metal_shim.plant) metal_shim.plant(source);
        auto& known = kernels_[source];
        if (!known) {
            known = std::make_unique<ShimKernel>();
            known->name = name;
            known->source = std::move(source);
            known->lanes = lanes;
        }
        return known.get();
    }
    std::unique_ptr<Bindings> bind(const Buffers& buffers) override {
        called();
        auto out = std::make_unique<ShimBindings>();
        out->buffers = {&changed(buffers.params),  &changed(buffers.rows),  &changed(buffers.vectors),
                        &changed(buffers.weights), &changed(buffers.arena), &changed(buffers.cells)};
        return out;
    }
    void write(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes) override {
        called();
        std::memcpy(changed(to).bytes.data() + offset, bytes.data(), bytes.size());
    }
    void copy(const Buffer& from, const Buffer& to, uint64_t bytes) override {
        called();
        std::memcpy(changed(to).bytes.data(), own(from).bytes.data(), bytes);
    }
    void run(std::span<const Dispatch> dispatches) override {
        called();
        for (const Dispatch& each : dispatches) machine.dispatch(each);
    }
    void read(const Buffer& from, uint64_t offset, std::span<std::byte> bytes) override {
        called();
        std::memcpy(bytes.data(), own(from).bytes.data() + offset, bytes.size());
    }

private:
    static void called() {
        const uint64_t call = metal_shim.calls++;
        if (call == metal_shim.failing || (metal_shim.lost && call > metal_shim.failing))
            throw BackendFailure("the device is gone");
    }

    const Limits limits_{.buffer_bytes = uint64_t{1} << 30, .workgroups = 65535};
    const std::string name_ = "Metal's kernels as C++";
    std::map<std::string, std::unique_ptr<ShimKernel>> kernels_;  // by source
};

}  // namespace

std::shared_ptr<Device> open_device(const edgekit_model_options&) {
    static const auto device = std::make_shared<MetalShimDevice>();
    return device;
}

}  // namespace edgekit::gpu
