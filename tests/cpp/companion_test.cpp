// A companion that loads slowly, fails, gives wrong logits, rests or is cancelled at any step of a text: the
// text is the processor's own.

#include <algorithm>
#include <cstring>
#include <limits>

#include "engine_support.h"

namespace {

constexpr uint32_t kWindow = 20, kSinks = 2, kChunk = 8;

// The processor behind a table, and what goes wrong with it. Numbers count calls.
struct Fake {
    uint32_t loading = 0;           // of `state` that find it loading,
    uint32_t resting = UINT32_MAX;  // the first that finds it resting,
    uint32_t rested = UINT32_MAX;   // and ready again
    bool broken = false;            // it did not load
    bool full = false;              // it has no room for a text
    uint32_t error = UINT32_MAX;    // of `append`: the one that fails,
    uint32_t wrong = UINT32_MAX;    // the first that gives another text's logits,
    uint32_t numberless = UINT32_MAX;
    uint32_t cancelled = UINT32_MAX;
    uint32_t states = 0, appends = 0, tokens = 0, open = 0;
    bool released = false;
    edgekit_model* model = nullptr;
    edgekit_session* running = nullptr;  // of the engine, to be cancelled
};

edgekit_status fail(edgekit_error* error, const char* message) {
    if (error) std::snprintf(error->message, sizeof error->message, "%s", message);
    return EDGEKIT_INTERNAL;
}

edgekit_companion table_of(Fake& fake, uint32_t window = kWindow) {
    edgekit_companion table{};
    table.struct_size = sizeof table;
    table.name = "fake";
    table.context = &fake;
    table.vocab_size = fake.model->model->spec().vocab_size;
    table.window = window;
    table.sinks = kSinks;
    table.state = [](void* context, edgekit_error* why) {
        Fake& fake = *static_cast<Fake*>(context);
        const uint32_t call = fake.states++;
        if (fake.broken) {
            fail(why, "no such package");
            return EDGEKIT_COMPANION_FAILED;
        }
        if (call >= fake.resting && call < fake.rested) {
            fail(why, "the device is hot");
            return EDGEKIT_COMPANION_RESTING;
        }
        return call < fake.loading ? EDGEKIT_COMPANION_LOADING : EDGEKIT_COMPANION_READY;
    };
    table.open = [](void* context, void** text, edgekit_error* error) {
        Fake& fake = *static_cast<Fake*>(context);
        if (fake.full) return fail(error, "no room");
        edgekit_session_options options;
        edgekit_session_options_init(&options);
        options.window = kWindow;
        options.sinks = kSinks;
        options.chunk = kChunk;
        edgekit_session* session = nullptr;
        const edgekit_status status = edgekit_session_create(fake.model, &options, &session, error);
        *text = session;
        ++fake.open;
        return status;
    };
    table.close = [](void* context, void* text) {
        --static_cast<Fake*>(context)->open;
        edgekit_session_free(static_cast<edgekit_session*>(text));
    };
    table.append = [](void* context, void* text, uint64_t position, const int32_t* ids, size_t count,
                      float* logits, edgekit_poll_fn poll, void* poll_context, edgekit_error* error) {
        Fake& fake = *static_cast<Fake*>(context);
        auto* session = static_cast<edgekit_session*>(text);
        const uint32_t call = fake.appends++;
        if (call == fake.error) return fail(error, "the device is gone");
        if (call == fake.cancelled) edgekit_session_cancel(fake.running);
        if (poll(poll_context)) return EDGEKIT_CANCELLED;
        const uint64_t held = edgekit_session_position(session);
        check(position <= held, "nothing is left out");
        if (const auto status = edgekit_session_rewind(session, held - position, error)) return status;
        const auto status = edgekit_session_forward(session, ids, count, 0, logits, error);
        fake.tokens += static_cast<uint32_t>(count);
        if (logits && call >= fake.wrong)
            std::rotate(logits, logits + 7, logits + fake.model->model->spec().vocab_size);
        if (logits && call >= fake.numberless) logits[5] = std::numeric_limits<float>::quiet_NaN();
        return status;
    };
    table.release = [](void* context) { static_cast<Fake*>(context)->released = true; };
    return table;
}

// A model with the fake beside it.
struct Pair {
    explicit Pair(Fake given = {}, uint32_t window = kWindow) : fake(given) {
        fake.model = open_model("text.edge");
        const edgekit_companion table = table_of(fake, window);
        edgekit_model_options options;
        edgekit_model_options_init(&options);
        options.n_threads = 1;
        options.companion = &table;
        expect_ok(edgekit_model_open((kGolden + "text.edge").c_str(), &options, &model, &error), "open");
        session = new_session();
        fake.running = session;
    }
    ~Pair() {
        edgekit_session_free(session);
        edgekit_model_free(model);
        check(fake.open == 0 && fake.released, "every text is closed, and the companion released");
        edgekit_model_free(fake.model);
    }
    // Of the processor alone.
    edgekit_session* own_session() const {
        edgekit_session_options options;
        edgekit_session_options_init(&options);
        options.window = kWindow;
        options.sinks = kSinks;
        options.chunk = kChunk;
        return create_session(fake.model, options);
    }
    edgekit_session* new_session(uint32_t window = 0) const {
        edgekit_session_options options;
        edgekit_session_options_init(&options);
        options.window = window;
        options.chunk = kChunk;
        return create_session(model, options);
    }

    Fake fake;
    edgekit_model* model = nullptr;
    edgekit_session* session = nullptr;
};

struct Told : Generated {
    std::vector<std::string> moves;  // "fake", or "cpu: why"
    std::string who, why;
};

std::string text_of(edgekit_span span) { return {span.data, span.size}; }

Told story(edgekit_session* session, uint32_t tokens = 40, const char* prompt = "Once upon a time") {
    edgekit_generate_options options;
    edgekit_generate_options_init(&options, nullptr);
    options.prompt = prompt;
    options.prompt_size = prompt ? std::strlen(prompt) : 0;
    options.prompt_mode = prompt ? EDGEKIT_PROMPT_FROM_START : EDGEKIT_PROMPT_APPEND;
    options.temperature = 0;
    options.max_tokens = tokens;
    options.ignore_eos = 1;
    expect_ok(edgekit_session_generate(session, &options, &error), "generate");
    Told out;
    edgekit_event event{};
    event.struct_size = sizeof event;
    while (edgekit_session_next(session, &event, &error) == EDGEKIT_OK && event.kind != EDGEKIT_EVENT_DONE) {
        if (event.kind == EDGEKIT_EVENT_TEXT)
            out.ids.insert(out.ids.end(), event.tokens, event.tokens + event.token_count);
        if (event.kind == EDGEKIT_EVENT_MOVED) {
            const std::string why = text_of(event.relayed);
            out.moves.push_back(text_of(event.computed_by) + (why.empty() ? "" : ": " + why));
        }
    }
    out.done = event;
    out.who = text_of(event.computed_by);
    out.why = text_of(event.relayed);
    return out;
}

using Moves = std::vector<std::string>;

Told alone() {
    edgekit_model* model = open_model("text.edge");
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = kWindow;
    options.sinks = kSinks;
    options.chunk = kChunk;
    edgekit_session* session = create_session(model, options);
    Told told = story(session);
    edgekit_session_free(session);
    edgekit_model_free(model);
    return told;
}

// Past the end of the ring, from whichever token on.
void test_loading(const Told& expected) {
    for (const uint32_t loading : {0u, 1u, 3u, 10u, 1000u}) {
        const Pair pair({.loading = loading});
        const Told told = story(pair.session);
        check(told.ids == expected.ids, "a companion that is ready after " + std::to_string(loading));
        const bool moves = loading < 1000;
        check(told.moves == (moves ? Moves{"fake"} : Moves{}) && told.who == (moves ? "fake" : "cpu"),
              "events tell of it");
        check(told.why.empty() && (pair.fake.tokens > 0) == moves, "and only then it computes");
    }
}

void test_failures(const Told& expected) {
    const struct {
        Fake fake;
        Moves moves;
        const char* why;
    } cases[] = {
        {{.broken = true}, {}, "no such package"},
        {{.full = true}, {}, "no room"},
        {{.wrong = 0},
         {},
         "its logits are not this model's: convert both from one checkpoint, or try another scheme"},
        {{.numberless = 0}, {}, "some of its logits are no numbers"},
        {{.numberless = 9},
         {"fake", "cpu: some of its logits are no numbers"},
         "some of its logits are no numbers"},
    };
    for (const auto& each : cases) {
        const Pair pair(each.fake);
        const Told told = story(pair.session);
        check(
            told.ids == expected.ids && told.moves == each.moves && told.why == each.why && told.who == "cpu",
            std::string("the text with: ") + each.why + ", told: " + told.why);
    }
    for (uint32_t step = 0; step < 40; ++step) {
        const Pair pair({.error = step});
        const Told told = story(pair.session);
        check(told.ids == expected.ids, "the text goes on after an error at step " + std::to_string(step));
        check(told.why == "the device is gone" && told.who == "cpu", "and tells of it");
        check(pair.fake.appends == step + 1, "with this text it is not tried again");
    }
}

void test_resting(const Told& expected) {
    for (const uint32_t until : {6u, 8u, 20u, 1000u}) {
        const Pair pair({.resting = 5, .rested = until});
        const Told told = story(pair.session);
        check(told.ids == expected.ids, "a device that is hot until " + std::to_string(until));
        Moves moves{"fake"};
        if (until > 6) moves.emplace_back("cpu: the device is hot");  // else it is ready after a token
        if (until > 6 && until < 1000) moves.emplace_back("fake");
        check(told.moves == moves, "there, back and there again: " + std::to_string(told.moves.size()));
    }
}

void test_cancelling(const Told& expected) {
    for (uint32_t step = 0; step < 20; ++step) {
        const Pair pair({.cancelled = step});
        Told told = story(pair.session);
        check(told.done.finish == EDGEKIT_FINISH_CANCELLED, "cancelled in the companion's step");
        const Told rest = story(pair.session, static_cast<uint32_t>(40 - told.ids.size()), nullptr);
        told.ids.insert(told.ids.end(), rest.ids.begin(), rest.ids.end());
        check(told.ids == expected.ids, "and goes on from step " + std::to_string(step));
    }
}

// What is done with a text that is with the companion.
void test_sessions(const Told& expected) {
    const Pair pair;
    story(pair.session, 12);
    edgekit_session* copy = nullptr;
    expect_ok(edgekit_session_fork(pair.session, &copy, &error), "fork");
    std::vector<std::byte> state(edgekit_session_state_size(pair.session));
    size_t size = 0;
    expect_ok(edgekit_session_state_write(pair.session, state.data(), state.size(), &size, &error), "write");
    const Told rest = story(pair.session, 28, nullptr);
    check(std::equal(rest.ids.begin(), rest.ids.end(), expected.ids.begin() + 12), "the text itself");
    check(story(copy, 28, nullptr).ids == rest.ids, "its fork");
    expect_ok(edgekit_session_state_read(copy, state.data(), state.size(), &error), "read");
    check(story(copy, 28, nullptr).ids == rest.ids, "what was saved of it");
    edgekit_session_free(copy);
    const uint32_t tokens = pair.fake.tokens;
    const Told again = story(pair.session);
    check(again.ids == expected.ids && again.who == "fake", "the same text from the beginning");
    check(pair.fake.tokens - tokens >= 40 + 15, "which it computes with its prompt: it is trusted now");
    for (const uint64_t count : {1, 7}) {
        story(pair.session, 14);
        expect_ok(edgekit_session_rewind(pair.session, count, &error), "rewind");
        const int32_t id = expected.ids[13 - count];
        std::vector<float> left(pair.fake.model->model->spec().vocab_size), right(left.size());
        edgekit_session* other = pair.own_session();
        story(other, static_cast<uint32_t>(14 - count));
        expect_ok(edgekit_session_forward(pair.session, &id, 1, 0, left.data(), &error), "forward");
        expect_ok(edgekit_session_forward(other, &id, 1, 0, right.data(), &error), "forward");
        check(left == right, "after tokens were taken back");
        edgekit_session_free(other);
    }
}

// A text longer than tokens are remembered, which the processor follows behind.
void test_long_text() {
    const Pair pair;
    edgekit_session* session = pair.session;
    const size_t vocab = pair.fake.model->model->spec().vocab_size;
    std::vector<float> left(vocab), right(vocab);
    story(session, 4);
    edgekit_session* other = pair.own_session();
    story(other, 4);
    std::vector<int32_t> ids(9000);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(3 + i * i % 50);
    expect_ok(edgekit_session_forward(session, ids.data(), ids.size(), 0, left.data(), &error), "forward");
    expect_ok(edgekit_session_forward(other, ids.data(), ids.size(), 0, right.data(), &error), "forward");
    check(left == right && pair.fake.tokens > 9000, "it computes all of it");
    std::vector<std::byte> state(edgekit_session_state_size(session)), own(state.size());
    size_t size = 0;
    expect_ok(edgekit_session_state_write(session, state.data(), state.size(), &size, &error), "write");
    expect_ok(edgekit_session_forward(session, ids.data(), 1, 0, left.data(), &error), "forward");
    expect_ok(edgekit_session_state_read(session, state.data(), state.size(), &error), "read");
    expect_ok(edgekit_session_forward(session, ids.data(), 1, 0, right.data(), &error), "forward");
    check(left == right, "and the processor's cells are those of the text");
    edgekit_session_free(other);
}

// Whose windows differ part where the shorter one ends.
void test_other_window(const Told& expected) {
    const Pair pair;
    edgekit_session* wide = pair.new_session(40);
    const Told told = story(wide);
    check(told.moves.size() == 2 && told.moves[1].find("longer than its cache") != std::string::npos,
          "the text comes back at the end of the companion's cache");
    edgekit_session_free(wide);
    (void)expected;
}

void test_refusals() {
    Fake fake;
    fake.model = open_model("text.edge");
    edgekit_model_options options;
    edgekit_model_options_init(&options);
    edgekit_model* model = nullptr;
    edgekit_companion table = table_of(fake);
    options.companion = &table;
    expect(edgekit_model_open("no such file", &options, &model, &error), EDGEKIT_IO_ERROR, "no file");
    check(fake.released, "released where opening fails");
    fake.released = false;
    ++table.vocab_size;
    expect(edgekit_model_open((kGolden + "text.edge").c_str(), &options, &model, &error),
           EDGEKIT_INVALID_ARGUMENT, "another vocabulary");
    check(fake.released, "and released");
    table.append = nullptr;
    expect(edgekit_model_open((kGolden + "text.edge").c_str(), &options, &model, &error),
           EDGEKIT_INVALID_ARGUMENT, "half a table");
    edgekit_model_free(fake.model);
}

}  // namespace

int main() {
    const Told expected = alone();
    check(expected.ids.size() == 40 && expected.moves.empty() && expected.who == "cpu",
          "the processor's text");
    test_loading(expected);
    test_failures(expected);
    test_resting(expected);
    test_cancelling(expected);
    test_sessions(expected);
    test_long_text();
    test_other_window(expected);
    test_refusals();
    return report();
}
