// The engine through edgekit.h: the golden cases on every instruction set of this build, saved sessions,
// memory plans to the byte, no allocation per token, cancellation, and errors for what is wrong.

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include "engine_support.h"
#include "null_backend/null_backend.h"

namespace {

std::atomic<uint64_t> allocations{0};
std::atomic<uint64_t> allocated_bytes{0};

void count(size_t size) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    allocated_bytes.fetch_add(size, std::memory_order_relaxed);
}
void* counted(size_t size, size_t alignment) {
    count(size);
    void* memory = alignment > alignof(std::max_align_t)
                       ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
                       : std::malloc(size ? size : 1);
    return memory;
}

}  // namespace

void* operator new(size_t size) {
    if (void* memory = counted(size, 0)) return memory;
    throw std::bad_alloc();
}
void* operator new(size_t size, std::align_val_t alignment) {
    if (void* memory = counted(size, static_cast<size_t>(alignment))) return memory;
    throw std::bad_alloc();
}
void* operator new(size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    return counted(size, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

#ifdef __APPLE__
constexpr bool kCountsCalloc = false;
#else
constexpr bool kCountsCalloc = true;
// The linker (--wrap=calloc) sends the library's calls here.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
void* __real_calloc(size_t n, size_t size);
void* __wrap_calloc(size_t n, size_t size) {
    count(n * size);
    return __real_calloc(n, size);
}
// NOLINTEND(bugprone-reserved-identifier)
}
#endif

namespace {

using edgekit::json::Value;

edgekit_generate_options options_from(const Value& wanted, const edgekit_model* model,
                                      std::vector<int32_t>& stop_ids) {
    edgekit_generate_options options;
    edgekit_generate_options_init(&options, model);
    for (const auto& [name, value] : wanted.as_object()) {
        if (name == "max_tokens")
            options.max_tokens = static_cast<uint32_t>(value.as_int());
        else if (name == "ignore_eos")
            options.ignore_eos = value.as_bool();
        else if (name == "temperature")
            options.temperature = static_cast<float>(value.as_double());
        else if (name == "top_k")
            options.top_k = static_cast<uint32_t>(value.as_int());
        else if (name == "top_p")
            options.top_p = static_cast<float>(value.as_double());
        else if (name == "min_p")
            options.min_p = static_cast<float>(value.as_double());
        else if (name == "repetition_penalty")
            options.repetition_penalty = static_cast<float>(value.as_double());
        else if (name == "seed")
            options.seed = static_cast<uint64_t>(value.as_int());
        else if (name == "stop_ids")
            stop_ids = ids_of(value);
        else
            check(false, "a golden case has the unknown option " + name);
    }
    options.stop_ids = stop_ids.data();
    options.stop_ids_count = stop_ids.size();
    return options;
}

void replay(const Value& cases, const std::string& isa, uint32_t threads) {
    for (const Value& c : cases.array_at("cases")) {
        edgekit_model* model = open_model(c.string_at("model"), isa.c_str(), threads);
        edgekit_session* session = create_session(model, c.at("session"));
        if (!session) return;
        std::vector<int32_t> stop_ids;
        edgekit_generate_options options = options_from(c.at("generate"), model, stop_ids);
        std::vector<int32_t> prompt;
        std::string messages;
        if (const Value* text = c.find("prompt")) {
            options.prompt = text->as_string().data();
            options.prompt_size = text->as_string().size();
        } else if (const Value* conversation = c.find("messages")) {
            messages = edgekit::json::dump(*conversation);
            options.messages = messages.data();
            options.messages_size = messages.size();
        } else {
            prompt = ids_of(c.at("prompt_ids"));
            options.prompt_ids = prompt.data();
            options.prompt_ids_count = prompt.size();
        }
        for (const int32_t speculation : {0, 4, -1}) {
            options.speculation = speculation;
            expect_ok(edgekit_session_reset(session, &error), "reset");
            const Generated got = generate(session, options);
            const std::string what =
                c.string_at("model") + " on " + isa + " with speculation " + std::to_string(speculation);
            check(got.ids == ids_of(c.at("ids")), what + ": other tokens");
            check(got.text == c.string_at("text"), what + ": other text: " + got.text);
        }
        edgekit_model_free(model);  // the session goes on
        edgekit_session_free(session);
    }
    for (const Value& s : cases.array_at("states")) {
        edgekit_model* model = open_model(s.string_at("model"), isa.c_str(), threads);
        edgekit_session* session = create_session(model, s.at("session"));
        if (!session) return;
        expect_ok(edgekit_session_restore(session, (kGolden + s.string_at("file")).c_str(), &error),
                  "restore on " + isa);
        check(edgekit_session_position(session) == static_cast<uint64_t>(s.int_at("position")),
              "the restored position");
        const std::vector<int32_t> prompt = ids_of(s.at("prompt_ids"));
        edgekit_generate_options options;
        edgekit_generate_options_init(&options, nullptr);
        options.prompt_ids = prompt.data();
        options.prompt_ids_count = prompt.size();
        options.prompt_mode = EDGEKIT_PROMPT_APPEND;
        options.max_tokens = static_cast<uint32_t>(s.int_at("max_tokens"));
        options.ignore_eos = 1;
        check(generate(session, options).ids == ids_of(s.at("ids")),
              "a restored session continues differently on " + isa);
        edgekit_session_free(session);
        edgekit_model_free(model);
    }
}

void replay_chats(const Value& cases) {
    for (const Value& c : cases.array_at("chats")) {
        edgekit_model* model = open_model(c.string_at("model"), nullptr);
        const std::string messages = edgekit::json::dump(c.at("messages"));
        std::string text(4096, '\0');
        size_t size = 0;
        expect_ok(edgekit_model_render_chat(model, messages.data(), messages.size(), text.data(), text.size(),
                                            &size, &error),
                  "render a chat");
        text.resize(size);
        check(text == c.string_at("text"), "a chat renders as " + text);
        std::vector<int32_t> ids(4096);
        expect_ok(edgekit_model_encode_chat(model, messages.data(), messages.size(), ids.data(), ids.size(),
                                            &size, &error),
                  "encode a chat");
        ids.resize(size);
        check(ids == ids_of(c.at("ids")), "a chat has other tokens: " + text);
        edgekit_model_free(model);
    }
}

// A model allocates what the plan says when its first session is created, each session what is its own, and
// nothing once it generates.
void test_memory() {
    constexpr uint64_t kBookkeeping = 16384;  // the objects themselves, beside their buffers
    for (const char* file :
         {"text.edge", "windows.edge", "convolution.edge", "experts.edge", "recurrent.edge"}) {
        for (const uint32_t window : {40u, 500u, 3000u}) {
            const uint64_t before = allocated_bytes;
            edgekit_model* model = open_model(file, nullptr, 2);
            edgekit_session_options options;
            edgekit_session_options_init(&options);
            options.window = window;
            edgekit_memory_plan plan;
            plan.struct_size = sizeof plan;
            expect_ok(edgekit_plan(model, &options, &plan, &error), "plan");
            const uint64_t own = plan.cache_bytes + plan.activation_bytes;
            check(plan.total_bytes == own + plan.model_bytes, "the plan's total");
            check(plan.activation_bytes <= 4 * (4096 + window + plan.chunk + 64),
                  std::string(file) + ": a session has " + std::to_string(plan.activation_bytes) +
                      " bytes of its own, which is more than four for each token");
            const auto create = [&](edgekit_session*& session, uint64_t before, uint64_t least,
                                    uint64_t most) {
                expect_ok(edgekit_session_create(model, &options, &session, &error), "create");
                const uint64_t took = allocated_bytes - before;
                check((took >= least || !kCountsCalloc) && took < most + kBookkeeping,
                      std::string(file) + ": took " + std::to_string(took) + " bytes, not " +
                          std::to_string(least) + " to " + std::to_string(most));
            };
            const uint64_t opened = allocated_bytes - before;
            edgekit_session *first = nullptr, *session = nullptr;
            create(first, before, plan.total_bytes, opened + plan.total_bytes);
            create(session, allocated_bytes, own, own);
            edgekit_session_free(first);

            const int32_t prompt[] = {1, 2, 3};
            edgekit_generate_options generation;
            edgekit_generate_options_init(&generation, nullptr);
            generation.prompt_ids = prompt;
            generation.prompt_ids_count = 3;
            generation.max_tokens = 300;
            generation.ignore_eos = 1;
            generation.temperature = 0.8f;
            generation.top_p = 0.9f;
            generation.repetition_penalty = 1.1f;
            expect_ok(edgekit_session_generate(session, &generation, &error), "generate");
            edgekit_event event;
            event.struct_size = sizeof event;
            for (int i = 0; i < 40; ++i) expect_ok(edgekit_session_next(session, &event, &error), "next");
            const uint64_t count = allocations;
            while (edgekit_session_next(session, &event, &error) == EDGEKIT_OK &&
                   event.kind != EDGEKIT_EVENT_DONE) {
            }
            const uint64_t during = allocations - count;
            check(event.generated_tokens == 300, "300 tokens were asked for");
            check(during == 0,
                  std::string(file) + ": " + std::to_string(during) + " allocations while generating");
            edgekit_session_free(session);
            edgekit_model_free(model);
        }
    }
}

struct Removed {
    std::string path;
    ~Removed() { std::remove(path.c_str()); }
};

// A copy of a golden package that may be written to.
Removed copy_of(const std::string& file) {
    const std::string name = "edgekit_engine_test." + std::to_string(getpid()) + "." + file;
    std::string path = (std::filesystem::temp_directory_path() / name).string();
    std::ofstream(path, std::ios::binary) << read_file(kGolden + file);
    return {path};
}

std::vector<int32_t> encoded(const edgekit_model* model, const std::string& text) {
    std::vector<int32_t> ids(text.size() + 2);
    size_t count = 0;
    expect_ok(edgekit_tokenizer_encode(edgekit_model_tokenizer(model), text.data(), text.size(), 0,
                                       ids.data(), ids.size(), &count, &error),
              "encode");
    ids.resize(count);
    return ids;
}

// What is written to a file after it was opened reaches a mapped model's weights, which is an error, not its
// tokenizer; and nothing of a model that was read into memory.
void test_changed_file() {
    uint64_t in_mapped = 0;  // bytes of a mapped model
    for (const bool in_memory : {false, true}) {
        for (const bool cut : {false, true}) {
            const Removed file = copy_of("text.edge");
            const std::string bytes = read_file(file.path);
            edgekit_model_options options;
            edgekit_model_options_init(&options);
            options.n_threads = 1;
            options.in_memory = in_memory;
            edgekit_model* model = nullptr;
            const uint64_t before = allocated_bytes;
            expect_ok(edgekit_model_open(file.path.c_str(), &options, &model, &error), "open a copy");
            const uint64_t took = allocated_bytes - before;
            edgekit_memory_plan plan;
            plan.struct_size = sizeof plan;
            expect_ok(edgekit_plan(model, nullptr, &plan, &error), "plan");
            if (!in_memory) in_mapped = plan.model_bytes;
            check(plan.model_bytes - in_mapped == (in_memory ? bytes.size() - plan.tokenizer_bytes : 0) &&
                      plan.tokenizer_bytes > 0 && took >= (in_memory ? bytes.size() : plan.tokenizer_bytes),
                  "the model says it takes " + std::to_string(plan.model_bytes) + " bytes");
            edgekit_session* session = create_session(model, edgekit::json::parse(R"({"window": 64})"));
            const std::vector<int32_t> ids = encoded(model, "Once upon a time");
            expect_ok(edgekit_session_forward(session, ids.data(), ids.size(), 0, nullptr, &error),
                      "forward");

            std::filesystem::last_write_time(
                file.path, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
            if (cut) {
                std::filesystem::resize_file(file.path, 100);
            } else {
                std::fstream over(file.path, std::ios::binary | std::ios::in | std::ios::out);
                over << std::string(bytes.size(), '\xa5');
            }
            const edgekit_status status = edgekit_session_forward(session, ids.data(), 1, 0, nullptr, &error);
            check(status == (in_memory ? EDGEKIT_OK : EDGEKIT_IO_ERROR), "a step on a changed file");
            check(in_memory || std::string(error.message).find(cut ? "was cut" : "was written to") !=
                                   std::string::npos,
                  error.message);
            check(edgekit_session_position(session) == ids.size() + in_memory, "a refused step adds nothing");
            check(encoded(model, "Once upon a time") == ids, "the tokenizer of a changed file");
            edgekit_session_free(session);
            edgekit_model_free(model);
        }
    }
}

void test_budget() {
    edgekit_model* model = open_model("text.edge", nullptr);
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    edgekit_memory_plan plan;
    plan.struct_size = sizeof plan;
    options.memory_budget_bytes = 1000;
    check(edgekit_plan(model, &options, &plan, &error) == EDGEKIT_OVER_BUDGET,
          "a budget of 1,000 bytes is refused");
    const uint64_t needed = error.needed_bytes;
    options.memory_budget_bytes = needed;
    expect_ok(edgekit_plan(model, &options, &plan, &error), "the smallest budget named is enough");
    check(plan.total_bytes <= needed, "and is kept to");
    options.memory_budget_bytes = needed - 1;
    check(edgekit_plan(model, &options, &plan, &error) == EDGEKIT_OVER_BUDGET, "a byte less is not");
    uint32_t last = 0;
    for (uint64_t budget = needed; budget < 64 * needed; budget *= 2) {
        options.memory_budget_bytes = budget;
        expect_ok(edgekit_plan(model, &options, &plan, &error), "a larger budget");
        check(plan.total_bytes <= budget, "the plan exceeds its budget");
        check(plan.window >= last || plan.kv_type < EDGEKIT_KV_INT4,
              "a larger budget gives a wider window or a finer cache");
        last = plan.window;
    }
    edgekit_model_free(model);
}

// A plan from a package's header alone, wherever the rest is.
void test_plan_from_header() {
    const std::string file = read_file(kGolden + "text.edge");
    uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof length);
    const size_t size = sizeof length + length;
    std::vector<std::byte> room(size + 64);  // no more than the header
    void* header = room.data();
    size_t left = room.size();
    std::memcpy(std::align(64, size, header, left), file.data(), size);
    edgekit_memory_plan from_file, from_header;
    from_file.struct_size = from_header.struct_size = sizeof from_file;
    expect_ok(edgekit_can_load((kGolden + "text.edge").c_str(), nullptr, &from_file, &error), "can_load");
    expect_ok(edgekit_can_load_header(header, size, file.size(), nullptr, &from_header, &error),
              "can_load_header");
    check(!std::memcmp(&from_file, &from_header, sizeof from_file), "the header alone gives another plan");
    const auto status = [&](size_t header_size, uint64_t file_bytes) {
        return edgekit_can_load_header(header, header_size, file_bytes, nullptr, &from_header, &error);
    };
    check(status(size - 1, file.size()) == EDGEKIT_INVALID_ARGUMENT, "half a header is refused");
    check(status(4, file.size()) == EDGEKIT_INVALID_ARGUMENT, "a header without its length is refused");
    check(status(size, file.size() - 64) == EDGEKIT_INVALID_FILE, "a file that ends too early is refused");
    check(status(size, 8) == EDGEKIT_INVALID_FILE, "a file of 8 bytes is refused");
    std::memset(header, '{', 16);
    check(status(16, file.size()) == EDGEKIT_INVALID_FILE, "a file that is no package is refused");
}

void test_full_ring_and_reuse() {
    edgekit_model* model = open_model("text.edge", nullptr);
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = 30;
    options.sinks = 2;
    std::vector<int32_t> prompt(20);
    for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i * 7 % 250);
    edgekit_generate_options generation;
    edgekit_generate_options_init(&generation, nullptr);
    generation.prompt_ids = prompt.data();
    generation.prompt_ids_count = prompt.size();
    generation.max_tokens = 200;
    generation.ignore_eos = 1;
    for (const edgekit_on_full on_full :
         {EDGEKIT_ON_FULL_EVICT, EDGEKIT_ON_FULL_STOP, EDGEKIT_ON_FULL_ERROR}) {
        options.on_full = on_full;
        edgekit_session* session = nullptr;
        expect_ok(edgekit_session_create(model, &options, &session, &error), "create");
        const Generated got = generate(session, generation);
        if (on_full == EDGEKIT_ON_FULL_EVICT) {
            check(got.done.generated_tokens == 200 && got.evicted == 219 - 32,
                  "every evicted token is told: " + std::to_string(got.evicted));
        } else if (on_full == EDGEKIT_ON_FULL_STOP) {
            check(got.done.finish == EDGEKIT_FINISH_CONTEXT_FULL && edgekit_session_position(session) == 32,
                  "stops when the ring is full");
        } else {
            check(error.status == EDGEKIT_CONTEXT_FULL, "says that the ring is full");
        }
        edgekit_session_free(session);
    }
    // The next turn computes only what is new, and gives what a fresh session gives.
    options.on_full = EDGEKIT_ON_FULL_EVICT;
    options.window = 100;
    generation.max_tokens = 10;
    edgekit_session* session = nullptr;
    expect_ok(edgekit_session_create(model, &options, &session, &error), "create");
    const Generated first = generate(session, generation);
    edgekit_session* fork = nullptr;
    expect_ok(edgekit_session_fork(session, &fork, &error), "fork");
    std::vector<int32_t> longer = prompt;
    longer.insert(longer.end(), first.ids.begin(), first.ids.end());
    longer.insert(longer.end(), {3, 1, 4, 1, 5});
    generation.prompt_ids = longer.data();
    generation.prompt_ids_count = longer.size();
    const Generated second = generate(session, generation);
    const Generated forked = generate(fork, generation);
    check(second.done.cached_tokens == 29,
          "29 tokens are shared, " + std::to_string(second.done.cached_tokens) + " were reused");
    check(second.ids == forked.ids, "a fork continues as its origin");
    expect_ok(edgekit_session_reset(fork, &error), "reset");
    const Generated fresh = generate(fork, generation);
    check(fresh.done.cached_tokens == 0 && fresh.ids == second.ids, "a fresh session gives the same");
    // Taking tokens back.
    expect_ok(edgekit_session_rewind(session, 9, &error), "rewind");
    check(edgekit_session_rewind(session, 1000, &error) == EDGEKIT_INVALID_ARGUMENT, "no more than there is");
    edgekit_session_free(fork);
    edgekit_session_free(session);
    edgekit_model_free(model);
}

void test_cancel() {
    edgekit_model* model = open_model("text.edge", nullptr, 2);
    edgekit_session* session = create_session(model, edgekit::json::parse(R"({"window": 64})"));
    edgekit_generate_options generation;
    edgekit_generate_options_init(&generation, nullptr);
    const int32_t prompt[] = {1, 2, 3};
    generation.prompt_ids = prompt;
    generation.prompt_ids_count = 3;
    generation.ignore_eos = 1;
    generation.max_tokens = UINT32_MAX;  // for ever
    expect_ok(edgekit_session_generate(session, &generation, &error), "generate");
    std::atomic<bool> running{false};
    std::thread canceller([&] {
        while (!running) std::this_thread::yield();
        edgekit_session_cancel(session);
    });
    edgekit_event event;
    event.struct_size = sizeof event;
    while (edgekit_session_next(session, &event, &error) == EDGEKIT_OK && event.kind != EDGEKIT_EVENT_DONE)
        running = true;
    canceller.join();
    check(event.kind == EDGEKIT_EVENT_DONE && event.finish == EDGEKIT_FINISH_CANCELLED,
          "cancelled from another thread");
    generation.max_tokens = 5;
    check(generate(session, generation).ids.size() == 5, "a cancelled session is usable");
    edgekit_session_free(session);
    edgekit_model_free(model);
}

// An app's executor that cancels a session while it runs the `cancel_at`-th pass (from 1; 0: none).
struct CancellingExecutor {
    edgekit_session* session = nullptr;
    int passes = 0;
    int cancel_at = 0;
    static void run(void* context, void (*task)(void*, size_t), void* arg, size_t count) {
        auto* self = static_cast<CancellingExecutor*>(context);
        if (++self->passes == self->cancel_at) edgekit_session_cancel(self->session);
        std::vector<std::thread> threads;
        for (size_t i = 1; i < count; ++i) threads.emplace_back(task, arg, i);
        task(arg, 0);
        for (std::thread& thread : threads) thread.join();
    }
};

// A pass that is given up between two layers leaves the session as it was, also where the ring has wrapped.
void test_cancel_between_layers() {
    for (const char* file :
         {"text.edge", "windows.edge", "convolution.edge", "experts.edge", "recurrent.edge"}) {
        CancellingExecutor executor;
        edgekit_model_options model_options;
        edgekit_model_options_init(&model_options);
        model_options.n_threads = 2;
        model_options.parallel = CancellingExecutor::run;
        model_options.parallel_context = &executor;
        edgekit_model* model = nullptr;
        expect_ok(edgekit_model_open((kGolden + file).c_str(), &model_options, &model, &error), "open");
        edgekit_model_info info;
        info.struct_size = sizeof info;
        expect_ok(edgekit_model_get_info(model, &info, &error), "info");
        const auto vocab = static_cast<size_t>(info.vocab_size);
        edgekit_session_options options;
        edgekit_session_options_init(&options);
        options.window = 24;
        options.sinks = 2;
        options.chunk = 8;
        std::vector<int32_t> ids(72);
        for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7 % 60);

        std::vector<float> whole(vocab), resumed(vocab), taken_back(vocab);
        edgekit_session* session = nullptr;
        expect_ok(edgekit_session_create(model, &options, &session, &error), "create");
        expect_ok(edgekit_session_forward(session, ids.data(), ids.size(), 0, whole.data(), &error), "whole");
        expect_ok(edgekit_session_reset(session, &error), "reset");
        executor = {session, 0, 8};
        check(edgekit_session_forward(session, ids.data(), ids.size(), 0, nullptr, &error) ==
                      EDGEKIT_CANCELLED &&
                  edgekit_session_position(session) == 56,
              std::string(file) + ": cancelled in its eighth chunk");
        expect_ok(edgekit_session_forward(session, ids.data() + 56, 16, 0, resumed.data(), &error), "resume");
        check(resumed == whole, std::string(file) + ": cancelled and resumed, other logits");

        // What the chunk overwrote before it was given up cannot be taken back to.
        executor = {session, 0, 1};
        check(edgekit_session_forward(session, ids.data(), 8, 0, nullptr, &error) == EDGEKIT_CANCELLED,
              "cancelled once more");
        executor.cancel_at = 0;
        uint64_t most = 0;
        while (edgekit_session_rewind(session, 1, &error) == EDGEKIT_OK) ++most;
        if (most > 0) {
            expect_ok(edgekit_session_forward(session, ids.data() + ids.size() - most, most, 0,
                                              taken_back.data(), &error),
                      "forward again");
            check(taken_back == whole, std::string(file) + ": taken back after cancelling, other logits");
        }

        // A generation that was cancelled in the middle of a pass goes on where it was.
        edgekit_generate_options generation;
        edgekit_generate_options_init(&generation, nullptr);
        generation.prompt_ids = ids.data();
        generation.prompt_ids_count = 20;
        generation.max_tokens = 12;
        generation.ignore_eos = 1;
        generation.speculation = 0;
        generation.temperature = 0;
        const Generated straight = generate(session, generation);
        expect_ok(edgekit_session_reset(session, &error), "reset");
        executor = {session, 0, 2};
        check(generate(session, generation).done.finish == EDGEKIT_FINISH_CANCELLED &&
                  edgekit_session_position(session) == 8,
              std::string(file) + ": cancelled in its prompt");
        executor = {session, 0, 6};  // after what is left of the prompt, in two chunks
        Generated parts = generate(session, generation);
        check(parts.done.finish == EDGEKIT_FINISH_CANCELLED,
              std::string(file) + ": cancelled while decoding");
        generation.prompt_ids_count = 0;
        generation.prompt_mode = EDGEKIT_PROMPT_APPEND;
        generation.max_tokens -= static_cast<uint32_t>(parts.ids.size());
        const Generated rest = generate(session, generation);
        parts.ids.insert(parts.ids.end(), rest.ids.begin(), rest.ids.end());
        check(parts.ids == straight.ids, std::string(file) + ": cancelled and continued, other tokens");
        edgekit_session_free(session);
        edgekit_model_free(model);
    }
}

// Sessions of one model that several threads use at once compute what each does alone, though they share the
// memory of a pass and that of drawing.
void test_sessions_at_once() {
    edgekit_model* model = open_model("text.edge", nullptr, 2);
    const auto text = [&](uint32_t index) {
        edgekit_session_options options;
        edgekit_session_options_init(&options);
        options.window = 40 * (index + 1);
        options.chunk = 8 << index;
        options.kv_type = index == 0 ? EDGEKIT_KV_INT4 : EDGEKIT_KV_F16;
        std::vector<int32_t> prompt(50), ids;
        for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>((i * 7 + index) % 60);
        edgekit_generate_options generation;
        edgekit_generate_options_init(&generation, nullptr);
        generation.prompt_ids = prompt.data();
        generation.prompt_ids_count = prompt.size();
        generation.ignore_eos = 1;
        generation.max_tokens = 100;
        generation.temperature = 0.7f;
        generation.top_p = 0.9f;
        generation.seed = index;
        edgekit_session* session = nullptr;
        edgekit_error failed;
        if (edgekit_session_create(model, &options, &session, &failed) ||
            edgekit_session_generate(session, &generation, &failed))
            return ids;
        edgekit_event event{};
        event.struct_size = sizeof event;
        while (edgekit_session_next(session, &event, &failed) == EDGEKIT_OK &&
               event.kind != EDGEKIT_EVENT_DONE)
            if (event.kind == EDGEKIT_EVENT_TEXT)
                ids.insert(ids.end(), event.tokens, event.tokens + event.token_count);
        edgekit_session_free(session);
        return ids;
    };
    constexpr uint32_t kTexts = 3;
    std::vector<int32_t> at_once[kTexts];
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < kTexts; ++i) threads.emplace_back([&, i] { at_once[i] = text(i); });
    for (std::thread& thread : threads) thread.join();
    for (uint32_t i = 0; i < kTexts; ++i)
        check(at_once[i].size() == 100 && at_once[i] == text(i), "another text beside others");
    edgekit_model_free(model);
}

void test_poll() {
    struct Poll {
        int calls = 0, answer = 0;
    } poll;
    edgekit_model* model = open_model("text.edge", nullptr);
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.poll = [](void* context) {
        auto* asked = static_cast<Poll*>(context);
        ++asked->calls;
        return asked->answer;
    };
    options.poll_context = &poll;
    const int32_t ids[] = {1, 2, 3};
    for (const int answer : {0, 1}) {
        poll = {0, answer};
        edgekit_session* session = nullptr;
        expect_ok(edgekit_session_create(model, &options, &session, &error), "create");
        check(edgekit_session_forward(session, ids, 3, 0, nullptr, &error) ==
                      (answer ? EDGEKIT_CANCELLED : EDGEKIT_OK) &&
                  poll.calls > 0,
              "an app that was asked and said " + std::to_string(answer));
        edgekit_session_free(session);
    }
    edgekit_model_free(model);
}

void test_errors() {
    edgekit_model* model = open_model("text.edge", nullptr);
    edgekit_session* session =
        create_session(model, edgekit::json::parse(R"({"window": 64, "sinks": 2, "kv": "int8"})"));
    const int32_t bad[] = {0, 100000};
    check(edgekit_session_forward(session, bad, 2, 0, nullptr, &error) == EDGEKIT_INVALID_ARGUMENT,
          "an id outside the vocabulary");
    edgekit_event event;
    event.struct_size = sizeof event;
    check(edgekit_session_next(session, &event, &error) == EDGEKIT_INVALID_ARGUMENT, "next without generate");
    edgekit_generate_options generation;
    edgekit_generate_options_init(&generation, nullptr);
    generation.struct_size += 8;
    check(edgekit_session_generate(session, &generation, &error) == EDGEKIT_INVALID_ARGUMENT,
          "a struct from a newer header");
    edgekit_generate_options_init(&generation, nullptr);
    generation.prompt = "\xff\xfe";
    generation.prompt_size = 2;
    check(edgekit_session_generate(session, &generation, &error) == EDGEKIT_INVALID_ARGUMENT,
          "a prompt that is not UTF-8");
    generation.prompt = "a";
    generation.prompt_size = 1;
    generation.temperature = -1;
    check(edgekit_session_generate(session, &generation, &error) == EDGEKIT_INVALID_ARGUMENT,
          "a negative temperature");

    // A package cut anywhere, or with a byte changed in its header, is refused or works, and never crashes.
    const std::string whole = read_file(kGolden + "text.edge");
    const auto try_open = [](std::string bytes) {
        void* memory = std::aligned_alloc(64, (bytes.size() + 64) / 64 * 64);
        std::copy(bytes.begin(), bytes.end(), static_cast<char*>(memory));
        edgekit_model* opened = nullptr;
        const edgekit_status status =
            edgekit_model_open_memory(memory, bytes.size(), std::free, memory, nullptr, &opened, &error);
        edgekit_model_free(opened);
        return status;
    };
    check(try_open(whole) == EDGEKIT_OK, "the whole package opens from memory");
    for (size_t size = 0; size < whole.size(); size += 997)
        check(try_open(whole.substr(0, size)) != EDGEKIT_OK, "a package cut at byte " + std::to_string(size));
    for (size_t at = 0; at < 6000; at += 37) {
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ 0x15);
        try_open(changed);
    }
    // So is a saved session.
    std::string state = read_file(kGolden + "text.session");
    for (size_t at = 0; at < state.size(); at += 211) {
        std::string changed = state;
        changed[at] = static_cast<char>(changed[at] ^ 1);
        check(edgekit_session_state_read(session, changed.data(), changed.size(), &error) != EDGEKIT_OK,
              "a damaged session is refused");
    }
    check(edgekit_session_state_read(session, state.data(), state.size(), &error) != EDGEKIT_OK,
          "a session with other options is refused");
    edgekit_session_free(session);
    edgekit_model_free(model);
}

// A header of many small values, in its tensors or in a document of its metadata, costs a few times its size.
void test_hostile_header() {
    std::string zeros = "[0";
    for (int i = 0; i < 1'000'000; ++i) zeros += ",0";
    zeros += ']';
    const std::string metadata = R"({"__metadata__":{"format":"edge","version":"2","matrices":"{}","spec":")";
    for (std::string header : {metadata + "{}\"},\"x\":" + zeros + "}", metadata + zeros + "\"}}"}) {
        header.append(64 - (header.size() + 8) % 64, ' ');
        const size_t size = header.size() + 8;
        void* memory = std::aligned_alloc(64, size);
        const uint64_t header_bytes = header.size();
        std::memcpy(memory, &header_bytes, 8);
        std::memcpy(static_cast<char*>(memory) + 8, header.data(), header.size());
        const uint64_t before = allocated_bytes;
        edgekit_model* model = nullptr;
        check(edgekit_model_open_memory(memory, size, std::free, memory, nullptr, &model, &error) ==
                  EDGEKIT_INVALID_FILE,
              "a hostile header");
        check(allocated_bytes - before < 16 * size, std::string("a hostile header of ") +
                                                        std::to_string(size) + " bytes took " +
                                                        std::to_string(allocated_bytes - before));
    }
}

void test_prompt_events() {
    edgekit_model* model = open_model("text.edge", nullptr);
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.chunk = 8;
    edgekit_session* session = nullptr;
    expect_ok(edgekit_session_create(model, &options, &session, &error), "create");
    std::vector<int32_t> prompt(20, 65);
    edgekit_generate_options generation;
    edgekit_generate_options_init(&generation, nullptr);
    generation.prompt_ids = prompt.data();
    generation.prompt_ids_count = prompt.size();
    generation.max_tokens = 1;
    generation.prompt_events = 1;
    expect_ok(edgekit_session_generate(session, &generation, &error), "generate");
    edgekit_event event;
    event.struct_size = sizeof event;
    for (const uint32_t done : {8u, 16u}) {
        expect_ok(edgekit_session_next(session, &event, &error), "next");
        check(event.kind == EDGEKIT_EVENT_PROMPT && event.cached_tokens == done && event.prompt_tokens == 20,
              "a chunk of the prompt is told");
    }
    expect_ok(edgekit_session_next(session, &event, &error), "next");
    check(event.kind == EDGEKIT_EVENT_TEXT, "the last chunk gives a token");
    edgekit_session_free(session);
    edgekit_model_free(model);
}

}  // namespace

int main() {
    const std::string text = read_file(kGolden + "cases.json");
    if (text.empty()) {
        std::printf("run from the repository's root: %scases.json is not there\n", kGolden.c_str());
        return 1;
    }
    const Value cases = edgekit::json::parse(text);
    std::stringstream isas(edgekit_isas());
    for (std::string isa; std::getline(isas, isa, ',');) {
        replay(cases, isa, 1);
        replay(cases, isa, 3);
        std::printf("%s: replayed\n", isa.c_str());
    }
    replay_chats(cases);
    test_changed_file();
    test_budget();
    test_plan_from_header();
    test_cancel_between_layers();
    test_errors();
    test_hostile_header();
    for (const edgekit::BackendKind* each : {&edgekit::kCpuBackend, &edgekit::kNullBackend}) {
        backend = each;
        test_memory();
        test_full_ring_and_reuse();
        test_prompt_events();
        test_cancel();
        test_sessions_at_once();
        test_poll();
    }
    return report();
}
