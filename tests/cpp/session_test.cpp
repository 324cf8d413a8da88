// What a session's calls promise, over any backend: a refused one changes nothing, a text goes on where it
// ended, penalties see all of it, and the cache holds what the text says.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/history.h"
#include "engine_support.h"
#include "null_backend/null_backend.h"

namespace {

using State = std::vector<char>;

State state_of(const edgekit_session* session) {
    State state(edgekit_session_state_size(session));
    size_t size = 0;
    expect_ok(edgekit_session_state_write(session, state.data(), state.size(), &size, &error),
              "write a state");
    check(size == state.size(), "a state has the size that was told");
    return state;
}

edgekit_session_options session_options(uint32_t window, uint32_t sinks = 2) {
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = window;
    options.sinks = sinks;
    return options;
}

// Greedy, without an end of its own. `ids` must outlive the options.
edgekit_generate_options continuation(const std::vector<int32_t>& ids, uint32_t max_tokens) {
    edgekit_generate_options options;
    edgekit_generate_options_init(&options, nullptr);
    options.prompt_ids = ids.data();
    options.prompt_ids_count = ids.size();
    options.max_tokens = max_tokens;
    options.ignore_eos = 1;
    return options;
}

std::vector<int32_t> some_ids(size_t count, int32_t step = 7) {
    std::vector<int32_t> ids(count);
    for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int32_t>(i) * step % 250;
    return ids;
}

edgekit_memory_plan plan_of(const edgekit_session* session) {
    edgekit_memory_plan plan;
    plan.struct_size = sizeof plan;
    expect_ok(edgekit_session_get_plan(session, &plan, &error), "get_plan");
    return plan;
}

// Logits that force a text: each token after the one before it cannot be forced by bias alone, one token can.
struct Bias {
    std::vector<int32_t> ids;
    std::vector<float> values;
    void apply(edgekit_generate_options& options) const {
        options.bias_ids = ids.data();
        options.bias_values = values.data();
        options.bias_count = ids.size();
    }
};

void test_refused_calls_change_nothing() {
    edgekit_model* model = open_model("text.edge");
    edgekit_session_options options = session_options(40);
    options.on_full = EDGEKIT_ON_FULL_ERROR;
    edgekit_session* session = create_session(model, options);
    edgekit_session* twin = create_session(model, options);
    const auto prompt = some_ids(12), too_long = some_ids(60, 5), foreign = std::vector<int32_t>{1, 2, 4000};
    const auto running = continuation(prompt, 10);
    edgekit_event event{};
    event.struct_size = sizeof event;
    for (edgekit_session* each : {session, twin}) {
        expect_ok(edgekit_session_generate(each, &running, &error), "generate");
        for (int i = 0; i < 3; ++i) expect_ok(edgekit_session_next(each, &event, &error), "next");
    }
    const State before = state_of(session);
    State damaged = before;
    damaged[damaged.size() / 2] ^= 1;

    const auto generates = [&](const std::function<void(edgekit_generate_options&)>& change) {
        edgekit_generate_options wrong = continuation(prompt, 10);
        change(wrong);
        return edgekit_session_generate(session, &wrong, &error);
    };
    const auto gives = [&](edgekit_status status, edgekit_status wanted, const std::string& what) {
        expect(status, wanted, what);
        check(state_of(session) == before, what + " changes the session");
    };
    gives(generates([&](auto& o) { o.prompt_ids = too_long.data(), o.prompt_ids_count = too_long.size(); }),
          EDGEKIT_CONTEXT_FULL, "a prompt that does not fit");
    gives(generates([&](auto& o) {
              o.prompt_ids = too_long.data(), o.prompt_ids_count = 40;
              o.prompt_mode = EDGEKIT_PROMPT_APPEND;
          }),
          EDGEKIT_CONTEXT_FULL, "a prompt that does not fit behind the text");
    gives(generates([&](auto& o) { o.prompt_ids = foreign.data(), o.prompt_ids_count = foreign.size(); }),
          EDGEKIT_INVALID_ARGUMENT, "a prompt outside the vocabulary");
    gives(generates([](auto& o) { o.temperature = -1; }), EDGEKIT_INVALID_ARGUMENT, "a negative temperature");
    gives(generates([](auto& o) { o.speculation = 99; }), EDGEKIT_INVALID_ARGUMENT, "a draft of 99");
    gives(generates([&](auto& o) { o.stop_ids = foreign.data(), o.stop_ids_count = foreign.size(); }),
          EDGEKIT_INVALID_ARGUMENT, "a stop id outside the vocabulary");
    const edgekit_span empty{"", 0};
    gives(generates([&](auto& o) { o.stops = &empty, o.stops_count = 1; }), EDGEKIT_INVALID_ARGUMENT,
          "an empty stop string");
    gives(generates([](auto& o) {
              o.prompt_ids = nullptr, o.prompt_ids_count = 0;
              o.messages = "[{", o.messages_size = 2;
          }),
          EDGEKIT_INVALID_ARGUMENT, "messages that are not JSON");
    gives(edgekit_session_forward(session, too_long.data(), too_long.size(), 0, nullptr, &error),
          EDGEKIT_CONTEXT_FULL, "too many tokens");
    gives(edgekit_session_forward(session, foreign.data(), foreign.size(), 0, nullptr, &error),
          EDGEKIT_INVALID_ARGUMENT, "tokens outside the vocabulary");
    gives(edgekit_session_rewind(session, 1000, &error), EDGEKIT_INVALID_ARGUMENT, "a rewind too far");
    gives(edgekit_session_state_read(session, damaged.data(), damaged.size(), &error), EDGEKIT_INVALID_FILE,
          "a damaged state");
    gives(edgekit_session_restore(session, "no/such.session", &error), EDGEKIT_IO_ERROR, "no file");
    gives(edgekit_session_save(session, "no/such/folder.session", &error), EDGEKIT_IO_ERROR, "no folder");
    gives(edgekit_session_fork(session, nullptr, &error), EDGEKIT_INVALID_ARGUMENT, "a fork to nowhere");
    event.struct_size = 0;
    gives(edgekit_session_next(session, &event, &error), EDGEKIT_INVALID_ARGUMENT, "an event without a size");

    // What ran goes on.
    const Generated rest = finish(session), undisturbed = finish(twin);
    check(rest.done.kind == EDGEKIT_EVENT_DONE && rest.ids == undisturbed.ids && !rest.ids.empty(),
          "a generation goes on after refused calls");
    edgekit_session_free(twin);
    edgekit_session_free(session);
    edgekit_model_free(model);
}

void test_full_in_the_middle() {
    edgekit_model* model = open_model("text.edge");
    edgekit_session_options options = session_options(20);
    options.on_full = EDGEKIT_ON_FULL_ERROR;
    edgekit_session* session = create_session(model, options);
    const auto prompt = some_ids(10);
    const auto asked = continuation(prompt, 100);
    finish((expect_ok(edgekit_session_generate(session, &asked, &error), "generate"), session));
    check(error.status == EDGEKIT_CONTEXT_FULL, "a full ring is told");
    edgekit_event event{};
    event.struct_size = sizeof event;
    expect(edgekit_session_next(session, &event, &error), EDGEKIT_INVALID_ARGUMENT, "next after an error");
    const auto shorter = continuation(prompt, 5);
    check(generate(session, shorter).ids.size() == 5, "the session is usable after it");
    edgekit_session_free(session);
    edgekit_model_free(model);
}

// An error while guesses are looked at leaves none of them in the cache.
void test_error_after_a_guess() {
    edgekit_model* model = open_model("text.edge");
    edgekit_session* session = create_session(model, session_options(60));
    // The last four tokens weigh so much that one of them follows; one that is there twice, too much.
    const std::vector<int32_t> prompt = {20, 30, 10, 40, 50, 60, 10, 20, 30};
    edgekit_generate_options options = continuation(prompt, 20);
    options.penalty_window = 4;
    options.frequency_penalty = -2e38f;
    options.speculation = 7;
    const Generated got = generate(session, options);
    check(got.ids == std::vector<int32_t>{10} && error.status == EDGEKIT_INVALID_ARGUMENT,
          "penalties that are too large are told at the second token");
    check(edgekit_session_position(session) == prompt.size() + 1, "the cache holds what was said");
    edgekit_session_free(session);
    edgekit_model_free(model);
}

// One of two letters, of other two after each token: aA bB cC in a circle, so that guesses abound.
struct Letters final : edgekit::LogitMask {
    std::vector<int32_t> accepted;
    uint32_t taken_back = 0;
    edgekit_session* cancelled = nullptr;  // when it is asked for the fiftieth
    size_t letter() const { return 1 + accepted.size() % 3; }
    void fill(std::span<uint32_t> allowed) const override {
        allowed['a' / 32] |= 1u << letter();
        allowed['A' / 32] |= 1u << letter();
        if (accepted.size() == 50) edgekit_session_cancel(cancelled);
    }
    void accept(int32_t id) override {
        check(id >= 'A' && static_cast<size_t>(id % 32) == letter(), "the mask is asked before each token");
        accepted.push_back(id);
    }
    void rollback(uint32_t count) override {
        check(count > 0 && count <= accepted.size(), "what was not accepted is not taken back");
        taken_back += count;
        accepted.resize(accepted.size() - count);
    }
};

// A mask holds with guesses as without them, and has accepted the text's tokens, also when a pass over
// guesses is given up.
void test_mask() {
    edgekit_model* model = open_model("text.edge");
    const auto prompt = some_ids(20);
    std::vector<int32_t> plain;
    for (const int32_t speculation : {0, 7}) {
        edgekit_session* session = create_session(model, session_options(60));
        edgekit_generate_options options = continuation(prompt, 150);
        options.speculation = speculation;
        Letters mask;
        session->session->generate(options, &mask);
        const Generated got = finish(session);
        check(got.ids.size() == 150 && got.ids == mask.accepted, "the mask has accepted the text");
        if (speculation == 0) plain = got.ids;
        check(got.ids == plain, "a masked text is the same with guesses");
        check(speculation == 0 || (got.done.accepted_tokens > 0 && mask.taken_back > 0),
              "guesses were taken, and refused: " + std::to_string(got.done.accepted_tokens) + " of " +
                  std::to_string(got.done.drafted_tokens));
        expect_ok(edgekit_session_reset(session, &error), "reset");
        Letters again;
        again.cancelled = session;
        session->session->generate(options, &again);
        std::vector<int32_t> parts = finish(session).ids;
        check(parts == again.accepted && parts.size() > 20 && parts.size() <= 50,
              "the mask of a cancelled text has accepted " + std::to_string(again.accepted.size()));
        options.prompt_ids_count = 0;
        options.prompt_mode = EDGEKIT_PROMPT_APPEND;
        options.max_tokens = 150 - static_cast<uint32_t>(parts.size());
        again.cancelled = nullptr;
        session->session->generate(options, &again);
        const std::vector<int32_t> rest = finish(session).ids;
        parts.insert(parts.end(), rest.begin(), rest.end());
        check(parts == plain && again.accepted == plain, "a cancelled text goes on under its mask");
        edgekit_session_free(session);
    }
    edgekit_model_free(model);
}

// A text in two generations is the text of one: tokens, bytes of a cut code point, penalties.
void test_text_goes_on() {
    edgekit_model* model = open_model("text.edge");
    const std::string hand = "\xF0\x9F\x91\x8D";  // this tokenizer's tokens are bytes
    for (const size_t cut : {1u, 2u, 3u}) {
        edgekit_session* session = create_session(model, session_options(60));
        std::string said;
        for (size_t i = 0; i < hand.size(); ++i) {
            const bool first = i == 0;
            const int32_t id = static_cast<unsigned char>(hand[i]);
            const float value = 1e4f;
            const std::vector<int32_t> prompt =
                first ? std::vector<int32_t>{72, 105} : std::vector<int32_t>{};
            edgekit_generate_options options = continuation(prompt, 1);
            options.prompt_mode = first ? EDGEKIT_PROMPT_FROM_START : EDGEKIT_PROMPT_APPEND;
            options.bias_ids = &id;
            options.bias_values = &value;
            options.bias_count = 1;
            said += generate(session, options).text;
            if (i + 1 != cut) continue;
            edgekit_session* fork = nullptr;
            expect_ok(edgekit_session_fork(session, &fork, &error), "fork");
            edgekit_session_free(session);
            session = fork;
        }
        check(said == hand, "a cut code point is completed: '" + said + "'");
        edgekit_session_free(session);
    }

    edgekit_session* whole = create_session(model, session_options(200));
    edgekit_session* parts = create_session(model, session_options(200));
    const auto prompt = some_ids(30);
    edgekit_generate_options options = continuation(prompt, 24);
    options.frequency_penalty = 0.4f;
    options.repetition_penalty = 1.3f;
    const Generated once = generate(whole, options);
    options.max_tokens = 12;
    Generated twice = generate(parts, options);
    options.prompt_ids = nullptr;
    options.prompt_ids_count = 0;
    options.prompt_mode = EDGEKIT_PROMPT_APPEND;
    const Generated rest = generate(parts, options);
    twice.ids.insert(twice.ids.end(), rest.ids.begin(), rest.ids.end());
    check(twice.ids == once.ids, "penalties see the text before an appended prompt");
    check(twice.text + rest.text == once.text, "two texts are the one");
    edgekit_session_free(parts);
    edgekit_session_free(whole);
    edgekit_model_free(model);
}

// After a stop string the cache holds what the text says, so that the next turn computes no more than it
// must.
void test_stops() {
    edgekit_model* model = open_model("text.edge");
    const auto prompt = some_ids(20);
    edgekit_session* session = create_session(model, session_options(100));
    edgekit_generate_options options = continuation(prompt, 30);
    for (const int32_t speculation : {0, 7}) {
        options.speculation = speculation;
        options.stops_count = 0;
        expect_ok(edgekit_session_reset(session, &error), "reset");
        const Generated all = generate(session, options);
        // A stop of three tokens in the middle of what the model says, all of them printable.
        size_t at = 3;
        const auto plain = [](int32_t id) { return id >= 32 && id < 127; };
        while (at + 3 < all.ids.size() &&
               !(plain(all.ids[at]) && plain(all.ids[at + 1]) && plain(all.ids[at + 2])))
            ++at;
        check(at + 3 < all.ids.size(), "the model says three printable characters");
        const std::string text(all.ids.begin() + static_cast<ptrdiff_t>(at),
                               all.ids.begin() + static_cast<ptrdiff_t>(at) + 3);
        const edgekit_span stop{text.data(), text.size()};
        options.stops = &stop;
        options.stops_count = 1;
        expect_ok(edgekit_session_reset(session, &error), "reset");
        const Generated stopped = generate(session, options);
        check(stopped.done.finish == EDGEKIT_FINISH_STOP && all.text.starts_with(stopped.text),
              "a stop string ends the text");
        const uint64_t held = edgekit_session_position(session);
        check(stopped.done.taken_back >= 3 &&
                  held == prompt.size() + stopped.done.generated_tokens - stopped.done.taken_back,
              "the tokens of a stop string leave the cache: " + std::to_string(stopped.done.taken_back));
        std::string kept;
        for (size_t i = 0; i + stopped.done.taken_back < stopped.ids.size(); ++i) {
            edgekit_span bytes{};
            expect_ok(
                edgekit_tokenizer_token_bytes(edgekit_model_tokenizer(model), stopped.ids[i], &bytes, &error),
                "token_bytes");
            kept.append(bytes.data, bytes.size);
        }
        check(kept.find(text) == std::string::npos, "the cache holds nothing of the stop string");
    }

    // A special token as a stop string, and the same by its id: the text ends as at the model's own end.
    const std::string special = "<|start|>";
    const int32_t id =
        edgekit_tokenizer_token_to_id(edgekit_model_tokenizer(model), special.data(), special.size());
    const Bias bias{{id}, {1e4f}};
    const edgekit_span stop{special.data(), special.size()};
    for (const bool by_id : {false, true}) {
        options = continuation(prompt, 8);
        bias.apply(options);
        if (by_id) {
            options.stop_ids = &id;
            options.stop_ids_count = 1;
        } else {
            options.stops = &stop;
            options.stops_count = 1;
        }
        const Generated got = generate(session, options);
        check(got.done.finish == EDGEKIT_FINISH_STOP && got.ids.empty() && got.done.taken_back == 0 &&
                  edgekit_session_position(session) == prompt.size(),
              "a special token stops the text" + std::string(by_id ? " by its id" : " by its text"));
    }
    edgekit_session_free(session);
    edgekit_model_free(model);
}

void test_defaults() {
    edgekit_model* model = open_model("text.edge");
    edgekit_generate_options options;
    edgekit_generate_options_init(&options, model);
    check(options.temperature == 0.7f && options.top_k == 20 && options.top_p == 1,
          "the package's sampling is the default");
    edgekit_generate_options_init(&options, nullptr);
    check(options.temperature == 0 && options.seed == EDGEKIT_SEED_RANDOM, "without a package: greedy");
    // A fresh seed each time, told so that the text can be had again; an end, at the latest with the cache.
    edgekit_session* session = create_session(model, session_options(40));
    const auto prompt = some_ids(5);
    options = continuation(prompt, 0);
    options.temperature = 1;
    const Generated first = generate(session, options), second = generate(session, options);
    check(first.ids != second.ids && first.done.seed != second.done.seed, "two texts without a seed differ");
    check(first.ids.size() == 42 && first.done.finish == EDGEKIT_FINISH_LENGTH,
          "max_tokens is the cache's capacity by default");
    options.seed = first.done.seed;
    check(generate(session, options).ids == first.ids, "the seed that was told gives the text again");
    // A text that spells the token which begins texts gets no second one.
    const std::string spelt = "<|begin|>hi", plain = "hi";
    for (const std::string& text : {spelt, plain}) {
        edgekit_generate_options_init(&options, nullptr);
        options.prompt = text.data();
        options.prompt_size = text.size();
        options.max_tokens = 1;
        check(generate(session, options).done.prompt_tokens == 3, "one BOS before '" + text + "'");
    }
    edgekit_session_free(session);
    edgekit_model_free(model);
}

// ---- conversations

// Messages as JSON: the system's first, then the user's and the assistant's in turn.
std::string messages_of(const std::string& system, const std::vector<std::string>& turns) {
    std::string json = "[";
    if (!system.empty()) json += R"({"role": "system", "content": )" + edgekit::json::quote(system) + "}";
    for (size_t i = 0; i < turns.size(); ++i)
        json += std::string(json.size() > 1 ? ", " : "") + R"({"role": ")" + (i % 2 ? "assistant" : "user") +
                R"(", "content": )" + edgekit::json::quote(turns[i]) + "}";
    return json + "]";
}

Generated answer(edgekit_session* session, const std::string& messages, uint32_t max_tokens = 12,
                 Bias bias = {}) {
    edgekit_generate_options options;
    edgekit_generate_options_init(&options, nullptr);
    options.messages = messages.data();
    options.messages_size = messages.size();
    options.max_tokens = max_tokens;
    // Else printable ASCII alone, so that the text is the tokens.
    if (bias.ids.empty()) {
        for (int32_t id = 0; id < 257; ++id)
            if (id < 32 || id > 126) bias.ids.push_back(id), bias.values.push_back(-INFINITY);
    }
    bias.apply(options);
    return generate(session, options);
}

void test_conversation() {
    edgekit_model* model = open_model("text.edge");
    const std::string system = "You are Zed, and you speak of nothing but the sea.";
    // While nothing was evicted: as the same messages given whole.
    edgekit_session* session = create_session(model, session_options(400, EDGEKIT_SINKS_AUTO));
    std::vector<std::string> turns;
    for (int turn = 0; turn < 4; ++turn) {
        turns.push_back("Question " + std::to_string(turn));
        const std::string messages = messages_of(system, turns);
        const Generated got = answer(session, messages);
        edgekit_session* fresh = create_session(model, session_options(400, EDGEKIT_SINKS_AUTO));
        check(answer(fresh, messages).ids == got.ids, "a turn is answered as the whole conversation is");
        check(turn == 0 || got.done.cached_tokens > 50, "and computed but in part");
        edgekit_session_free(fresh);
        turns.push_back(got.text);
    }
    // The system prompt is kept for ever: all that comes before the first word of another message.
    const edgekit_memory_plan plan = plan_of(session);
    const size_t leads = std::string("..system\n.\n.user\n").size() + system.size();
    check(plan.sinks == leads && plan.sinks + plan.window == 404,
          "sinks are the system prompt's tokens: " + std::to_string(plan.sinks));
    edgekit_session* fork = nullptr;
    expect_ok(edgekit_session_fork(session, &fork, &error), "fork");
    check(plan_of(fork).sinks == plan.sinks && state_of(fork) == state_of(session),
          "a fork has the same sinks");
    edgekit_session* restored = create_session(model, session_options(400, EDGEKIT_SINKS_AUTO));
    const State state = state_of(session);
    expect_ok(edgekit_session_state_read(restored, state.data(), state.size(), &error), "restore");
    check(plan_of(restored).sinks == plan.sinks, "a saved session is restored with its sinks");
    turns.push_back("More");
    const std::string more = messages_of(system, turns);
    const Generated wanted = answer(session, more);
    check(answer(fork, more).ids == wanted.ids && answer(restored, more).ids == wanted.ids,
          "and goes on as the first does");
    expect_ok(edgekit_session_reset(session, &error), "reset");
    check(plan_of(session).sinks == 4, "a session that was reset has few sinks again");
    edgekit_session* by_hand = create_session(model, session_options(400, 4));
    expect_ok(edgekit_session_state_read(by_hand, state.data(), state.size(), &error), "restore");
    expect_ok(edgekit_session_reset(by_hand, &error), "reset");
    check(plan_of(by_hand).sinks == 4, "sinks that were restored leave with the text");
    edgekit_session_free(by_hand);
    for (edgekit_session* each : {session, fork, restored}) edgekit_session_free(each);

    // At most a quarter of the cache; a number given by hand stays; so does a text's.
    session = create_session(model, session_options(60, EDGEKIT_SINKS_AUTO));
    answer(session, messages_of(system, {"Hi"}));
    check(plan_of(session).sinks == 16, "sinks are at most a quarter of the cache");
    const auto ids = some_ids(10);
    generate(session, continuation(ids, 2));
    check(plan_of(session).sinks == 4, "a text's sinks are few");
    edgekit_session_free(session);
    session = create_session(model, session_options(400, 7));
    answer(session, messages_of(system, {"Hi"}));
    check(plan_of(session).sinks == 7, "sinks given by hand stay");
    edgekit_session_free(session);
    edgekit_model_free(model);
}

// A conversation longer than its window: each turn computes its own message alone, whichever file's rings
// hold it.
void test_long_conversation() {
    edgekit_model* model = open_model("text.edge");
    edgekit_session* session = create_session(model, session_options(150, EDGEKIT_SINKS_AUTO));
    std::vector<std::string> turns;
    uint64_t evicted = 0;
    for (int turn = 0; turn < 12; ++turn) {
        turns.push_back("Question " + std::to_string(turn));
        const Generated got = answer(session, messages_of("You are Zed.", turns));
        evicted += got.evicted;
        check(turn == 0 || got.done.prompt_tokens - got.done.cached_tokens < 60,
              "turn " + std::to_string(turn) + " computes " +
                  std::to_string(got.done.prompt_tokens - got.done.cached_tokens) + " tokens");
        turns.push_back(got.text);
    }
    check(evicted > 100, "the conversation outgrew its window");
    // An answer in other tokens than the tokenizer's, here some that print nothing: known by its text.
    turns.push_back("And?");
    turns.push_back(answer(session, messages_of("You are Zed.", turns), 60, {{256}, {1e4f}}).text);
    check(turns.back().empty(), "an answer of special tokens");
    const State state = state_of(session);
    edgekit_session* fork = create_session(model, session_options(150, EDGEKIT_SINKS_AUTO));
    expect_ok(edgekit_session_state_read(fork, state.data(), state.size(), &error), "restore");
    turns.push_back("Well?");
    const Generated known = answer(session, messages_of("You are Zed.", turns));
    check(answer(fork, messages_of("You are Zed.", turns)).ids == known.ids,
          "a restored session knows it too");
    // Anything else in between, and it is computed anew.
    expect_ok(edgekit_session_state_read(fork, state.data(), state.size(), &error), "restore");
    const int32_t one = 65;
    expect_ok(edgekit_session_forward(fork, &one, 1, 0, nullptr, &error), "forward");
    const Generated anew = answer(fork, messages_of("You are Zed.", turns));
    check(known.done.cached_tokens > 0 && anew.done.cached_tokens == 0, "what is not known is computed");
    turns[0] = "Another question";
    check(answer(session, messages_of("You are Zed.", turns)).done.cached_tokens == 0,
          "a conversation with another beginning is computed anew");
    edgekit_session_free(fork);
    edgekit_session_free(session);
    edgekit_model_free(model);
}

// Sliding windows beside the session's own: sinks chosen later attend as sinks given from the start.
void test_chosen_sinks_equal_given_ones() {
    edgekit_model* model = open_model("text.edge");
    edgekit_session* chosen = create_session(model, session_options(60, EDGEKIT_SINKS_AUTO));
    const std::string messages = messages_of("You are Zed, and you speak of the sea.", {"Hi"});
    const Generated from_auto = answer(chosen, messages, 120);
    const edgekit_memory_plan plan = plan_of(chosen);
    edgekit_session* given = create_session(model, session_options(plan.window, plan.sinks));
    check(answer(given, messages, 120).ids == from_auto.ids && from_auto.evicted > 30,
          "chosen sinks give what the same sinks give");
    edgekit_session_free(given);
    edgekit_session_free(chosen);
    edgekit_model_free(model);
}

// A saved session whose signature fits and whose numbers do not.
void test_hostile_states() {
    edgekit_model* model = open_model("text.edge");
    edgekit_session* session = create_session(model, session_options(24));
    const auto ids = some_ids(90);
    expect_ok(edgekit_session_forward(session, ids.data(), ids.size(), 0, nullptr, &error), "forward");
    const State sound = state_of(session);
    constexpr size_t kPosition = 32, kWritten = 40, kHistoryFirst = 48, kSinks = 192, kHistory = 200,
                     kSignature = 64;
    using Changes = std::vector<std::pair<size_t, uint64_t>>;  // (place, value)
    for (const Changes& changes :
         {Changes{{kPosition, UINT64_MAX}, {kWritten, UINT64_MAX}},
          Changes{{kPosition, UINT64_MAX}, {kWritten, UINT64_MAX}, {kHistoryFirst, UINT64_MAX - 90}},
          Changes{{kPosition, uint64_t{1} << 60},
                  {kWritten, uint64_t{1} << 60},
                  {kHistoryFirst, (uint64_t{1} << 60) - 90}},
          Changes{{kPosition, 91}}, Changes{{kPosition, 0}}, Changes{{kPosition, 30}},
          Changes{{kWritten, 89}}, Changes{{kHistoryFirst, 91}}, Changes{{kHistoryFirst, 88}},
          Changes{{kSinks, 1}}, Changes{{kSinks, 26}}}) {
        State hostile = sound;
        for (const auto& [place, value] : changes) std::memcpy(hostile.data() + place, &value, sizeof value);
        // Further back than any ring, with a history that is as long.
        if (changes[0] == std::pair{kPosition, uint64_t{30}})
            hostile.erase(hostile.begin() + kHistory + 30 * 4, hostile.begin() + kHistory + 90 * 4);
        const auto content = std::as_bytes(std::span(hostile).first(hostile.size() - kSignature));
        const std::string signature = edgekit::sha256_hex(content);
        std::memcpy(hostile.data() + content.size(), signature.data(), kSignature);
        expect(edgekit_session_state_read(session, hostile.data(), hostile.size(), &error),
               EDGEKIT_INVALID_FILE, "a state with " + std::to_string(changes[0].second));
        check(state_of(session) == sound, "a hostile state changes nothing");
    }
    edgekit_session_free(session);
    edgekit_model_free(model);
}

// What lies further back than the history reaches is known by its hash.
void test_history() {
    edgekit::TokenHistory history(8);
    const std::vector<int32_t> ids = some_ids(20);
    for (const int32_t id : ids) history.append(id);
    check(history.size() == 20 && history.first() == 12 && history.shared_prefix(ids) == 20, "all is shared");
    std::vector<int32_t> other = ids;
    other[15] = 251;
    check(history.shared_prefix(other) == 15, "what comes before another token is shared");
    other = ids;
    other[3] = 251;
    check(history.shared_prefix(other) == 0, "nothing is, when a forgotten token was another");
    other.resize(5);
    check(history.shared_prefix(other) == 0, "nor of a text that ends before the history begins");
    history.truncate(14);
    check(history.shared_prefix(ids) == 14, "what was taken back is not shared");
    history.truncate(0);
    check(history.shared_prefix(ids) == 0 && history.first() == 0, "nothing is left");
}

// ---- files

void test_saving() {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / ("edgekit_session_test." + std::to_string(getpid()));
    fs::create_directory(folder);
    edgekit_model* model = open_model("text.edge");
    edgekit_session* session = create_session(model, session_options(40));
    const auto ids = some_ids(90);
    expect_ok(edgekit_session_forward(session, ids.data(), ids.size(), 0, nullptr, &error), "forward");
    const State state = state_of(session);
    const auto bytes = [](const fs::path& path) {
        const std::string text = read_file(path.string());
        return State(text.begin(), text.end());
    };
    const fs::path file = folder / "a.session", link = folder / "link.session", pipe = folder / "pipe";
    std::ofstream(file) << "old";
    fs::create_symlink(file, link);
    expect_ok(edgekit_session_save(session, link.c_str(), &error), "save");
    check(bytes(file) == state && fs::is_symlink(link), "a link's file is replaced, not the link");
    // A pipe is written, not replaced.
    check(mkfifo(pipe.c_str(), 0600) == 0, "a pipe");
    const int end = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
    expect_ok(edgekit_session_save(session, pipe.c_str(), &error), "save into a pipe");
    State read(state.size() + 1);  // a pipe holds as much
    const ssize_t size = ::read(end, read.data(), read.size());
    read.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    close(end);
    check(read == state && fs::is_fifo(pipe), "a pipe gets the bytes");
    size_t files = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++files;
    check(files == 3, "nothing else is left in the folder");
    fs::remove_all(folder);
    edgekit_session_free(session);
    edgekit_model_free(model);
}

}  // namespace

int main() {
    std::vector<const edgekit::BackendKind*> backends{&edgekit::kCpuBackend, &edgekit::kNullBackend};
#ifdef EDGEKIT_GPU
    backends.push_back(&edgekit::kGpuBackend);
#endif
    for (const edgekit::BackendKind* each : backends) {
        backend = each;
        test_refused_calls_change_nothing();
        test_full_in_the_middle();
        test_error_after_a_guess();
        test_mask();
        test_text_goes_on();
        test_stops();
        test_defaults();
        test_conversation();
        test_long_conversation();
        test_chosen_sinks_equal_given_ones();
        test_hostile_states();
        test_saving();
    }
    test_history();
    return report();
}
