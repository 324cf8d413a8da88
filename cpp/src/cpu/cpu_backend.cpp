// The processor as a backend: a team of threads over the decoder, with the best kernels that run here.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>

#include "backend/backend.h"
#include "cpu/decoder.h"
#include "error.h"
#include "threads/per_process.h"
#include "threads/processors.h"
#include "threads/thread_choice.h"
#include "threads/turns.h"

namespace edgekit {

namespace {

constexpr uint32_t kMaxThreads = 64, kMaxDefaultThreads = 16;

uint32_t default_threads(const Processors& processors) {
    return std::min(processors.usable, kMaxDefaultThreads);
}

const Kernels& choose_kernels(const char* isa) {
    if (!isa) isa = std::getenv("EDGEKIT_ISA");  // NOLINT(concurrency-mt-unsafe): read only
    if (isa && !*isa) isa = nullptr;
    const Kernels* found = find_kernels(isa);
    if (found) return *found;
    const Kernels* known[16];
    std::string names;
    for (size_t i = 0, n = list_kernels(known, 16); i < n; ++i)
        names += (i ? ", " : "") + std::string(known[i]->isa);
    throw Error(Status::unsupported,
                "instruction set '" + std::string(isa ? isa : "") +
                    "' is not in this build or not in this processor; there are: " + names);
}

WorkspaceShape shape_of(const CacheLayout& layout) {
    return {.rows = layout.options().chunk, .slots = layout.most_slots()};
}

class CpuBackend final : public Backend {
public:
    CpuBackend(const ModelSpec& spec, const Weights& weights, const edgekit_model_options& options)
        : spec_(spec),
          weights_(weights),
          kernels_(choose_kernels(options.isa)),
          decoder_(spec, weights, kernels_),
          threads_(starter(options)) {}

    uint32_t threads() const override { return threads_.get().team.size(); }
    const Kernels& kernels() const override { return kernels_; }
    std::unique_ptr<Context> open(const CacheLayout& layout) override {
        Threads& threads = threads_.get();
        const std::lock_guard turn(threads.turns);
        threads.workspace.fit(shape_of(layout));
        return std::make_unique<Sequence>(spec_, layout);
    }
    bool forward(std::span<const Part> parts, Output output, float* out, const GiveUp& give_up) override {
        Threads& threads = threads_.get();
        const std::lock_guard turn(threads.turns);
        uint32_t rows = 0;
        for (const Part& part : parts) {
            threads.workspace.fit(shape_of(part.layout));  // a forked child's is new
            rows += part.rows;
        }
        threads.workspace.fit({.rows = rows});
        const bool token = rows == 1;
        const uint32_t n = token ? threads.choice.for_token() : threads.choice.for_prompt();
        const auto start = std::chrono::steady_clock::now();
        if (!decoder_.forward(parts, output, out, threads.workspace, threads.team, n, give_up)) return false;
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        if (token) threads.choice.took(n, took.count());
        return true;
    }

private:
    struct Threads {
        ThreadChoice choice;
        ThreadTeam team;
        Workspace workspace;
        Turns turns{};  // whose pass it is
    };
    std::function<std::unique_ptr<Threads>()> starter(const edgekit_model_options& options) {
        if (options.n_threads > kMaxThreads)
            throw Error(Status::invalid_argument, "threads is " + std::to_string(options.n_threads) +
                                                      "; it must be at most " + std::to_string(kMaxThreads));
        const Processors processors = survey_processors();
        const uint32_t most = options.n_threads ? options.n_threads : default_threads(processors);
        // Of the processors that are not fast cores nothing is known but that.
        const float evenness = most <= processors.fast_cores ? processors.evenness : 0.5f;
        const uint32_t fast = std::min(processors.fast_cores, most);
        return [=, this] {
            return std::unique_ptr<Threads>(
                new Threads{options.n_threads ? ThreadChoice(most) : ThreadChoice(fast, most),
                            ThreadTeam(most, options.parallel, options.parallel_context, evenness),
                            Workspace(spec_, weights_, most)});
        };
    }

    const ModelSpec& spec_;
    const Weights& weights_;
    const Kernels& kernels_;
    const Decoder decoder_;
    const PerProcess<Threads> threads_;
};

ContextBytes measure(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout,
                     uint32_t n_threads) {
    if (n_threads == 0) n_threads = default_threads(survey_processors());
    return {.cache = layout.bytes(),
            .shared = Workspace::measure(spec, weights, n_threads, shape_of(layout))};
}

std::unique_ptr<Backend> open(const ModelSpec& spec, const Weights& weights,
                              const edgekit_model_options& options) {
    return std::make_unique<CpuBackend>(spec, weights, options);
}

}  // namespace

const BackendKind kCpuBackend{.name = "cpu", .measure = measure, .open = open};

}  // namespace edgekit
