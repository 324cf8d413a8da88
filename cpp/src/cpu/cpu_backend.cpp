// The processor as a backend: a team of threads over the decoder, with the best kernels that run here.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>

#include "backend/backend.h"
#include "cpu/decoder.h"
#include "cpu/sequence.h"
#include "error.h"
#include "threads/per_process.h"
#include "threads/processors.h"
#include "threads/thread_choice.h"
#include "threads/thread_team.h"

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
        return std::make_unique<Sequence>(spec_, weights_, layout, threads());
    }
    bool forward(std::span<const Part> parts, const GiveUp& give_up) override {
        Threads& threads = threads_.get();
        for (const Part& part : parts) {
            const bool token = part.rows == 1;
            const uint32_t n = token ? threads.choice.for_token() : threads.choice.for_prompt();
            const auto start = std::chrono::steady_clock::now();
            if (!decoder_.forward(part, threads.team, n, give_up)) return false;
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
            if (token) threads.choice.took(n, took.count());
        }
        return true;
    }

private:
    struct Threads {
        ThreadChoice choice;
        ThreadTeam team;
    };
    static std::function<std::unique_ptr<Threads>()> starter(const edgekit_model_options& options) {
        if (options.n_threads > kMaxThreads)
            throw Error(Status::invalid_argument, "threads is " + std::to_string(options.n_threads) +
                                                      "; it must be at most " + std::to_string(kMaxThreads));
        const Processors processors = survey_processors();
        const uint32_t most = options.n_threads ? options.n_threads : default_threads(processors);
        // Of the processors that are not fast cores nothing is known but that.
        const float evenness = most <= processors.fast_cores ? processors.evenness : 0.5f;
        const uint32_t fast = std::min(processors.fast_cores, most);
        return [=] {
            return std::unique_ptr<Threads>(
                new Threads{options.n_threads ? ThreadChoice(most) : ThreadChoice(fast, most),
                            ThreadTeam(most, options.parallel, options.parallel_context, evenness)});
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
    return {.cache = layout.bytes(), .activations = DecoderState::measure(spec, weights, layout, n_threads)};
}

std::unique_ptr<Backend> open(const ModelSpec& spec, const Weights& weights,
                              const edgekit_model_options& options) {
    return std::make_unique<CpuBackend>(spec, weights, options);
}

}  // namespace

const BackendKind kCpuBackend{.name = "cpu", .measure = measure, .open = open};

}  // namespace edgekit
