// Arguments that cannot be meant: every pointer that may not be NULL, every array with a length and no
// pointer, every enum out of range and every struct without its size, of every call of edgekit.h, is refused
// with EDGEKIT_INVALID_ARGUMENT.

#include <cmath>
#include <cstring>
#include <functional>

#include "engine_support.h"

namespace {

struct Case {
    std::string what;
    std::function<edgekit_status()> call;
};

// An enum's member with a value that the enum has not.
template <class Enum>
void set(Enum& member, int value) {
    static_assert(sizeof member == sizeof value);
    std::memcpy(&member, &value, sizeof value);
}

template <class Options>
std::function<edgekit_status()> with(void (*init)(Options*),
                                     std::function<edgekit_status(const Options*)> call,
                                     std::function<void(Options&)> change) {
    return [=] {
        Options options;
        init(&options);
        change(options);
        return call(&options);
    };
}

std::vector<Case> cases(edgekit_model* model, edgekit_session* session, const edgekit_tokenizer* tokenizer) {
    static size_t size;
    static edgekit_span span;
    static char text[16];
    static int32_t ids[16];
    static const std::string path = kGolden + "text.edge";
    static edgekit_memory_plan plan;
    static edgekit_event event;
    static edgekit_model* opened;
    static edgekit_session* created;
    static edgekit_tokenizer* other_tokenizer;
    static edgekit_template* tmpl;
    plan.struct_size = sizeof plan;
    event.struct_size = sizeof event;

    using G = edgekit_generate_options;
    using S = edgekit_session_options;
    using M = edgekit_model_options;
    const auto generate = [&](std::function<void(G&)> change) {
        return with<G>([](G* options) { edgekit_generate_options_init(options, nullptr); },
                       [=](const G* options) { return edgekit_session_generate(session, options, &error); },
                       std::move(change));
    };
    const auto create = [&](std::function<void(S&)> change) {
        return with<S>(
            edgekit_session_options_init,
            [=](const S* options) { return edgekit_session_create(model, options, &created, &error); },
            std::move(change));
    };
    const auto planned = [&](std::function<void(S&)> change) {
        return with<S>(
            edgekit_session_options_init,
            [=](const S* options) { return edgekit_plan(model, options, &plan, &error); }, std::move(change));
    };
    const auto can_load = [&](std::function<void(S&)> change) {
        return with<S>(
            edgekit_session_options_init,
            [=](const S* options) { return edgekit_can_load(path.c_str(), options, &plan, &error); },
            std::move(change));
    };
    const auto open = [&](std::function<void(M&)> change) {
        return with<M>(
            edgekit_model_options_init,
            [=](const M* options) { return edgekit_model_open(path.c_str(), options, &opened, &error); },
            std::move(change));
    };
    // One call with a struct to fill whose size is not set.
    const auto unsized = [](auto call) {
        return [=] {
            auto filled = call.first;
            filled.struct_size = 0;
            return call.second(&filled);
        };
    };
    const auto sized = [](auto filled, auto call) { return std::pair(filled, call); };

    return {
        // generate
        {"no session", [&] { return edgekit_session_generate(nullptr, nullptr, &error); }},
        {"no options", [=] { return edgekit_session_generate(session, nullptr, &error); }},
        {"options of no size", generate([](G& o) { o.struct_size = 0; })},
        {"options of a later header", generate([](G& o) { o.struct_size += 8; })},
        {"prompt", generate([](G& o) { o.prompt_size = 1; })},
        {"prompt_ids", generate([](G& o) { o.prompt_ids_count = 1; })},
        {"messages", generate([](G& o) { o.messages_size = 1; })},
        {"two prompts",
         generate([](G& o) { o.prompt = "a", o.prompt_size = 1, o.messages = "[]", o.messages_size = 2; })},
        {"appended messages", generate([](G& o) {
             o.prompt_mode = EDGEKIT_PROMPT_APPEND, o.messages = "[]", o.messages_size = 2;
         })},
        {"bias_ids", generate([](G& o) {
             static float v;
             o.bias_values = &v, o.bias_count = 1;
         })},
        {"bias_values", generate([](G& o) { o.bias_ids = ids, o.bias_count = 1; })},
        {"stops", generate([](G& o) { o.stops_count = 1; })},
        {"a stop string", generate([](G& o) {
             span = {nullptr, 5};
             o.stops = &span, o.stops_count = 1;
         })},
        {"stop_ids", generate([](G& o) { o.stop_ids_count = 1; })},
        {"prompt_flags", generate([](G& o) { o.prompt_flags = 4; })},
        {"prompt_mode 9", generate([](G& o) { set(o.prompt_mode, 9); })},
        {"prompt_mode -1", generate([](G& o) { set(o.prompt_mode, -1); })},
        {"infinite bias", generate([](G& o) {
             static float v = INFINITY;
             o.bias_ids = ids, o.bias_values = &v, o.bias_count = 1;
         })},
        {"nothing to go on from", generate([](G& o) { o.prompt_mode = EDGEKIT_PROMPT_APPEND; })},
        // sessions and plans
        {"no model", [] { return edgekit_session_create(nullptr, nullptr, &created, &error); }},
        {"no place for a session", [=] { return edgekit_session_create(model, nullptr, nullptr, &error); }},
        {"create: kv_type", create([](S& o) { set(o.kv_type, 5); })},
        {"create: on_full", create([](S& o) { set(o.on_full, 77); })},
        {"create: a huge window", create([](S& o) { o.window = UINT32_MAX; })},
        {"create: huge sinks", create([](S& o) { o.sinks = UINT32_MAX - 1; })},
        {"create: a huge chunk", create([](S& o) { o.chunk = UINT32_MAX; })},
        {"plan: no model", [] { return edgekit_plan(nullptr, nullptr, &plan, &error); }},
        {"plan: no plan", [=] { return edgekit_plan(model, nullptr, nullptr, &error); }},
        {"plan: no size", unsized(sized(edgekit_memory_plan{},
                                        [=](auto* p) { return edgekit_plan(model, nullptr, p, &error); }))},
        {"plan: kv_type", planned([](S& o) { set(o.kv_type, -1); })},
        {"plan: on_full", planned([](S& o) { set(o.on_full, 3); })},
        {"can_load: no path", [] { return edgekit_can_load(nullptr, nullptr, &plan, &error); }},
        {"can_load: no plan", [] { return edgekit_can_load(path.c_str(), nullptr, nullptr, &error); }},
        {"can_load: no size",
         unsized(sized(edgekit_memory_plan{},
                       [](auto* p) { return edgekit_can_load(path.c_str(), nullptr, p, &error); }))},
        {"can_load: kv_type", can_load([](S& o) { set(o.kv_type, 5); })},
        {"can_load: on_full", can_load([](S& o) { set(o.on_full, 3); })},
        {"can_load_header: no header",
         [] { return edgekit_can_load_header(nullptr, 16, 1 << 20, nullptr, &plan, &error); }},
        {"can_load_header: no plan",
         [] { return edgekit_can_load_header(text, 16, 1 << 20, nullptr, nullptr, &error); }},
        {"can_load_header: too little",
         [] { return edgekit_can_load_header(text, 4, 1 << 20, nullptr, &plan, &error); }},
        {"get_plan: no session", [] { return edgekit_session_get_plan(nullptr, &plan, &error); }},
        {"get_plan: no size",
         unsized(sized(edgekit_memory_plan{},
                       [=](auto* p) { return edgekit_session_get_plan(session, p, &error); }))},
        {"forward: no session", [] { return edgekit_session_forward(nullptr, ids, 1, 0, nullptr, &error); }},
        {"forward: no ids", [=] { return edgekit_session_forward(session, nullptr, 1, 0, nullptr, &error); }},
        {"next: no session", [] { return edgekit_session_next(nullptr, &event, &error); }},
        {"next: no event", [=] { return edgekit_session_next(session, nullptr, &error); }},
        {"next: no size",
         unsized(sized(edgekit_event{}, [=](auto* e) { return edgekit_session_next(session, e, &error); }))},
        {"reset", [] { return edgekit_session_reset(nullptr, &error); }},
        {"rewind", [] { return edgekit_session_rewind(nullptr, 0, &error); }},
        {"fork: no session", [] { return edgekit_session_fork(nullptr, &created, &error); }},
        {"fork: nowhere", [=] { return edgekit_session_fork(session, nullptr, &error); }},
        {"state_write: no session",
         [] { return edgekit_session_state_write(nullptr, text, 16, &size, &error); }},
        {"state_write: no size",
         [=] { return edgekit_session_state_write(session, text, 16, nullptr, &error); }},
        {"state_write: no buffer",
         [=] { return edgekit_session_state_write(session, nullptr, 1 << 30, &size, &error); }},
        {"state_read: no session", [] { return edgekit_session_state_read(nullptr, text, 16, &error); }},
        {"state_read: no data", [=] { return edgekit_session_state_read(session, nullptr, 16, &error); }},
        {"save: no session", [] { return edgekit_session_save(nullptr, "x", &error); }},
        {"save: no path", [=] { return edgekit_session_save(session, nullptr, &error); }},
        {"restore: no session", [] { return edgekit_session_restore(nullptr, "x", &error); }},
        {"restore: no path", [=] { return edgekit_session_restore(session, nullptr, &error); }},
        // models
        {"open: no path", [] { return edgekit_model_open(nullptr, nullptr, &opened, &error); }},
        {"open: nowhere", [] { return edgekit_model_open(path.c_str(), nullptr, nullptr, &error); }},
        {"open: too many threads", open([](M& o) { o.n_threads = 1000; })},
        {"open: options of no size", open([](M& o) { o.struct_size = 0; })},
        {"open_memory: no data",
         [] { return edgekit_model_open_memory(nullptr, 64, nullptr, nullptr, nullptr, &opened, &error); }},
        {"open_memory: nowhere",
         [] { return edgekit_model_open_memory(text, 16, nullptr, nullptr, nullptr, nullptr, &error); }},
        {"info: no model",
         [] {
             edgekit_model_info info{};
             info.struct_size = sizeof info;
             return edgekit_model_get_info(nullptr, &info, &error);
         }},
        {"info: no size", unsized(sized(edgekit_model_info{},
                                        [=](auto* i) { return edgekit_model_get_info(model, i, &error); }))},
        {"render: no model",
         [] { return edgekit_model_render_chat(nullptr, "[]", 2, text, 16, &size, &error); }},
        {"render: no messages",
         [=] { return edgekit_model_render_chat(model, nullptr, 2, text, 16, &size, &error); }},
        {"render: no JSON",
         [=] { return edgekit_model_render_chat(model, "[", 1, text, 16, &size, &error); }},
        {"render: no size",
         [=] { return edgekit_model_render_chat(model, "[]", 2, text, 16, nullptr, &error); }},
        {"render: no buffer",
         [=] { return edgekit_model_render_chat(model, "[]", 2, nullptr, 1 << 20, &size, &error); }},
        {"encode_chat: no model",
         [] { return edgekit_model_encode_chat(nullptr, "[]", 2, ids, 16, &size, &error); }},
        {"encode_chat: no messages",
         [=] { return edgekit_model_encode_chat(model, nullptr, 2, ids, 16, &size, &error); }},
        {"encode_chat: no count",
         [=] { return edgekit_model_encode_chat(model, "[]", 2, ids, 16, nullptr, &error); }},
        {"encode_chat: no buffer",
         [=] { return edgekit_model_encode_chat(model, "[]", 2, nullptr, 1 << 20, &size, &error); }},
        // tokenizers and templates
        {"tokenizer: no data", [] { return edgekit_tokenizer_open(nullptr, 16, &other_tokenizer, &error); }},
        {"tokenizer: nowhere", [] { return edgekit_tokenizer_open(text, 16, nullptr, &error); }},
        {"tokenizer info: none",
         [] {
             edgekit_tokenizer_info info{};
             info.struct_size = sizeof info;
             return edgekit_tokenizer_get_info(nullptr, &info, &error);
         }},
        {"tokenizer info: no size",
         unsized(sized(edgekit_tokenizer_info{},
                       [=](auto* i) { return edgekit_tokenizer_get_info(tokenizer, i, &error); }))},
        {"encode: no tokenizer",
         [] { return edgekit_tokenizer_encode(nullptr, "a", 1, 0, ids, 16, &size, &error); }},
        {"encode: no text",
         [=] { return edgekit_tokenizer_encode(tokenizer, nullptr, 1, 0, ids, 16, &size, &error); }},
        {"encode: flags",
         [=] { return edgekit_tokenizer_encode(tokenizer, "a", 1, 8, ids, 16, &size, &error); }},
        {"encode: no count",
         [=] { return edgekit_tokenizer_encode(tokenizer, "a", 1, 0, ids, 16, nullptr, &error); }},
        {"encode: no buffer",
         [=] { return edgekit_tokenizer_encode(tokenizer, "a", 1, 0, nullptr, 16, &size, &error); }},
        {"decode: no tokenizer",
         [] { return edgekit_tokenizer_decode(nullptr, ids, 1, 0, text, 16, &size, &error); }},
        {"decode: no ids",
         [=] { return edgekit_tokenizer_decode(tokenizer, nullptr, 1, 0, text, 16, &size, &error); }},
        {"decode: no size",
         [=] { return edgekit_tokenizer_decode(tokenizer, ids, 1, 0, text, 16, nullptr, &error); }},
        {"decode: no buffer",
         [=] { return edgekit_tokenizer_decode(tokenizer, ids, 1, 0, nullptr, 16, &size, &error); }},
        {"token_bytes: no tokenizer",
         [] { return edgekit_tokenizer_token_bytes(nullptr, 0, &span, &error); }},
        {"token_bytes: nowhere",
         [=] { return edgekit_tokenizer_token_bytes(tokenizer, 0, nullptr, &error); }},
        {"template: no data", [] { return edgekit_template_open(nullptr, 16, &tmpl, &error); }},
        {"template: nowhere", [] { return edgekit_template_open(text, 16, nullptr, &error); }},
        {"template render: none",
         [] { return edgekit_template_render(nullptr, "{}", 2, text, 16, &size, &error); }},
        {"template encode: none",
         [=] {
             return edgekit_template_encode(nullptr, tokenizer, "{}", 2, nullptr, 0, ids, 16, &size, &error);
         }},
    };
}

}  // namespace

int main() {
    edgekit_model* model = open_model("text.edge");
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = 40;
    edgekit_session* session = create_session(model, options);
    for (const Case& each : cases(model, session, edgekit_model_tokenizer(model))) {
        error = {};
        expect(each.call(), EDGEKIT_INVALID_ARGUMENT, each.what);
        check(error.status == EDGEKIT_INVALID_ARGUMENT && *error.message, each.what + ": no message");
    }
    // What takes NULL.
    edgekit_generate_options_init(nullptr, model);
    check(edgekit_tokenizer_token_to_id(nullptr, "a", 1) == -1, "token_to_id without a tokenizer");
    check(edgekit_tokenizer_token_to_id(edgekit_model_tokenizer(model), nullptr, 1) == -1,
          "token_to_id of no text");
    check(edgekit_session_position(nullptr) == 0 && edgekit_session_state_size(nullptr) == 0,
          "no session has a size");
    check(edgekit_model_tokenizer(nullptr) == nullptr, "no model has a tokenizer");
    edgekit_session_cancel(nullptr);
    edgekit_session_free(nullptr);
    edgekit_model_free(nullptr);
    edgekit_tokenizer_free(nullptr);
    edgekit_template_free(nullptr);
    edgekit_session_free(session);
    edgekit_model_free(model);
    return report();
}
