// The memory plan: what a session allocates, before it does.

#include <algorithm>
#include <array>
#include <string>

#include "engine/model.h"
#include "engine/token_cache.h"
#include "error.h"

namespace edgekit {

namespace {

constexpr uint32_t kDefaultContext = 4096;
constexpr uint32_t kMinWindow = 16;
constexpr uint64_t kMaxWindow = uint64_t{1} << 30;
constexpr uint32_t kMaxChunk = 4096;

constexpr std::array<edgekit_kv_type, 3> kBudgetOrder = {EDGEKIT_KV_F16, EDGEKIT_KV_INT8, EDGEKIT_KV_INT4};

KvType kv_type(edgekit_kv_type type) {
    switch (type) {
        case EDGEKIT_KV_F32:
            return KvType::f32;
        case EDGEKIT_KV_AUTO:
        case EDGEKIT_KV_F16:
            return KvType::f16;
        case EDGEKIT_KV_INT8:
            return KvType::int8;
        case EDGEKIT_KV_INT4:
            return KvType::int4;
    }
    throw Error(Status::invalid_argument,
                "kv_type " + std::to_string(static_cast<int>(type)) + " is unknown");
}

// A longer chunk reads the weights fewer times, and costs as many slots in every layer's ring.
uint32_t default_chunk(uint32_t window) { return std::clamp(window / 4 / 16 * 16, 16u, 256u); }

}  // namespace

SessionPlan plan_session(const BackendKind& kind, const ModelSpec& spec, const Weights& weights,
                         uint64_t text_bytes, uint64_t model_bytes, uint32_t n_threads,
                         const edgekit_session_options& options) {
    const uint32_t sinks = options.sinks == EDGEKIT_SINKS_AUTO ? kFewestSinks : options.sinks;
    if (options.window > kMaxWindow || sinks > kMaxWindow)
        throw Error(Status::invalid_argument, "a window of " + std::to_string(options.window) + " and " +
                                                  std::to_string(sinks) + " sinks is too large");
    if (options.chunk > kMaxChunk)
        throw Error(Status::invalid_argument, "chunk is " + std::to_string(options.chunk) +
                                                  "; it must be at most " + std::to_string(kMaxChunk));
    const uint32_t context = std::min(spec.context ? spec.context : kDefaultContext, kDefaultContext);
    const uint32_t wanted =
        options.window ? options.window : std::max(kMinWindow, context > sinks ? context - sinks : 0);

    const auto plan_for = [&](uint32_t window, edgekit_kv_type type) {
        SessionPlan plan;
        plan.cache = {window, sinks, options.chunk ? options.chunk : default_chunk(window), kv_type(type)};
        const ContextBytes sizes = kind.measure(spec, weights, CacheLayout(spec, plan.cache), n_threads);
        edgekit_memory_plan& memory = plan.memory;
        memory.struct_size = sizeof memory;
        memory.weight_bytes = weights.bytes;
        memory.tokenizer_bytes = text_bytes;
        memory.cache_bytes = sizes.cache;
        memory.activation_bytes = TokenCache::own_bytes(plan.cache);
        memory.model_bytes = model_bytes + sizes.shared + Sampling::bytes(spec.vocab_size);
        memory.total_bytes = memory.cache_bytes + memory.activation_bytes + memory.model_bytes;
        memory.window = window;
        memory.sinks = sinks;
        memory.chunk = plan.cache.chunk;
        memory.kv_type = type == EDGEKIT_KV_AUTO ? EDGEKIT_KV_F16 : type;
        return plan;
    };

    const uint64_t budget = options.memory_budget_bytes;
    if (!budget) return plan_for(wanted, options.kv_type);

    // The widest window that fits, at most the one wanted; between equal windows the finer cache. A window
    // given by hand stays.
    SessionPlan best;
    uint64_t least = UINT64_MAX;
    for (const edgekit_kv_type type : kBudgetOrder) {
        if (options.kv_type != EDGEKIT_KV_AUTO && options.kv_type != type &&
            !(options.kv_type == EDGEKIT_KV_F32 && type == EDGEKIT_KV_F16))
            continue;
        const edgekit_kv_type chosen = options.kv_type == EDGEKIT_KV_AUTO ? type : options.kv_type;
        uint32_t low = options.window ? wanted : std::min(kMinWindow, wanted);
        const SessionPlan smallest = plan_for(low, chosen);
        least = std::min(least, smallest.memory.total_bytes);
        if (smallest.memory.total_bytes > budget) continue;
        uint32_t high = wanted;
        while (low < high) {  // total_bytes grows with the window
            const uint32_t middle = low + (high - low + 1) / 2;
            if (plan_for(middle, chosen).memory.total_bytes <= budget)
                low = middle;
            else
                high = middle - 1;
        }
        if (low > best.cache.window) best = plan_for(low, chosen);
        if (low == wanted) break;
    }
    if (best.cache.window) return best;
    throw Error(Status::over_budget,
                "a memory budget of " + std::to_string(budget) +
                    " bytes is too small for this model's session: the smallest that would do is " +
                    std::to_string(least) + " bytes",
                least);
}

}  // namespace edgekit
