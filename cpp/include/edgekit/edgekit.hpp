#pragma once
// edgekit.hpp: edgekit.h for C++20, header only. Handles close themselves, failures are thrown, a generation
// is a range. What an option or an event means is said in edgekit.h.
//
//     edgekit::Model model("model.edge");
//     edgekit::Session session(model);
//     for (const edgekit::Event& event : session.generate("Once upon a time")) std::cout << event.text();
//
// A Model may be copied and used by many threads at once; a Session by one at a time, cancel() excepted.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "edgekit/edgekit.h"

namespace edgekit {
// A name of its own: the static library defines classes of the same names.
inline namespace v1 {

// what(): what is wrong, the value seen, what to do.
class Error : public std::runtime_error {
public:
    explicit Error(const edgekit_error& error)
        : std::runtime_error(error.message), status_(error.status), needed_bytes_(error.needed_bytes) {}
    edgekit_status status() const noexcept { return status_; }
    // With EDGEKIT_OVER_BUDGET: the smallest budget that would do.
    uint64_t needed_bytes() const noexcept { return needed_bytes_; }

private:
    edgekit_status status_;
    uint64_t needed_bytes_;
};

struct ModelOptions : edgekit_model_options {
    ModelOptions() { edgekit_model_options_init(this); }
};

struct SessionOptions : edgekit_session_options {
    SessionOptions() { edgekit_session_options_init(this); }
};

// With a model (Session::options() has one), the sampling its makers advise; without, greedy. The prompt, the
// stops and the bias of edgekit_generate_options are taken from elsewhere: from the arguments of generate()
// and from the members here.
struct GenerateOptions : edgekit_generate_options {
    GenerateOptions() : GenerateOptions(nullptr) {}
    explicit GenerateOptions(const edgekit_model* model) { edgekit_generate_options_init(this, model); }
    std::vector<std::string> stops;
    std::vector<int32_t> stop_ids;
    std::vector<std::pair<int32_t, float>> logit_bias;  // (token id, what is added to its logit)
};

namespace detail {

template <class Function, class... Arguments>
void call(Function function, Arguments... arguments) {
    edgekit_error error{};
    if (function(arguments..., &error) != EDGEKIT_OK) throw Error(error);
}

// Calls fill(data, capacity, &size, &error), again with the size it asks for when the guess was too small.
template <class Buffer, class Fill>
Buffer fill(size_t guess, Fill fill) {
    Buffer buffer(guess, {});
    for (;;) {
        size_t size = 0;
        edgekit_error error{};
        const edgekit_status status = fill(buffer.data(), buffer.size(), &size, &error);
        if (status != EDGEKIT_OK && status != EDGEKIT_BUFFER_TOO_SMALL) throw Error(error);
        buffer.resize(size);
        if (status == EDGEKIT_OK) return buffer;
    }
}

}  // namespace detail

// Lives as long as it likes: it keeps its model.
class Tokenizer {
public:
    Tokenizer(std::shared_ptr<edgekit_model> model, const edgekit_tokenizer* handle)
        : model_(std::move(model)), handle_(handle) {}

    std::vector<int32_t> encode(std::string_view text,
                                uint32_t flags = EDGEKIT_ADD_SPECIAL | EDGEKIT_PARSE_SPECIAL) const {
        return detail::fill<std::vector<int32_t>>(
            text.size() / 2 + 16, [&](int32_t* ids, size_t capacity, size_t* count, edgekit_error* error) {
                return edgekit_tokenizer_encode(handle_, text.data(), text.size(), flags, ids, capacity,
                                                count, error);
            });
    }
    std::string decode(std::span<const int32_t> ids, bool skip_special = false) const {
        return detail::fill<std::string>(
            ids.size() * 8 + 16, [&](char* text, size_t capacity, size_t* size, edgekit_error* error) {
                return edgekit_tokenizer_decode(handle_, ids.data(), ids.size(), skip_special, text, capacity,
                                                size, error);
            });
    }
    // The raw bytes of one token, perhaps a part of a code point.
    std::string_view token_bytes(int32_t id) const {
        edgekit_span bytes{};
        detail::call(edgekit_tokenizer_token_bytes, handle_, id, &bytes);
        return {bytes.data, bytes.size};
    }
    std::optional<int32_t> token_to_id(std::string_view text) const {
        const int32_t id = edgekit_tokenizer_token_to_id(handle_, text.data(), text.size());
        return id < 0 ? std::nullopt : std::optional(id);
    }
    edgekit_tokenizer_info info() const {
        edgekit_tokenizer_info info{};
        info.struct_size = sizeof info;
        detail::call(edgekit_tokenizer_get_info, handle_, &info);
        return info;
    }

private:
    std::shared_ptr<edgekit_model> model_;
    const edgekit_tokenizer* handle_;
};

class Model {
public:
    // Maps the package at `path` (UTF-8).
    explicit Model(const std::string& path, const ModelOptions& options = {}) {
        edgekit_model* handle = nullptr;
        detail::call(edgekit_model_open, path.c_str(), &options, &handle);
        handle_.reset(handle, edgekit_model_free);
    }

    edgekit_model_info info() const {
        edgekit_model_info info{};
        info.struct_size = sizeof info;
        detail::call(edgekit_model_get_info, handle_.get(), &info);
        return info;
    }
    // None when the package was made without one.
    std::optional<Tokenizer> tokenizer() const {
        const edgekit_tokenizer* tokenizer = edgekit_model_tokenizer(handle_.get());
        return tokenizer ? std::optional(Tokenizer(handle_, tokenizer)) : std::nullopt;
    }
    // `context`: a JSON array of messages, or an object with "messages", "tools" and what else the template
    // reads.
    std::string render_chat(std::string_view context) const {
        return detail::fill<std::string>(
            context.size() * 2 + 1024, [&](char* text, size_t capacity, size_t* size, edgekit_error* error) {
                return edgekit_model_render_chat(handle_.get(), context.data(), context.size(), text,
                                                 capacity, size, error);
            });
    }
    // The same as ids, in which only the template's own text has become special tokens.
    std::vector<int32_t> encode_chat(std::string_view context) const {
        return detail::fill<std::vector<int32_t>>(
            context.size() / 2 + 256,
            [&](int32_t* ids, size_t capacity, size_t* count, edgekit_error* error) {
                return edgekit_model_encode_chat(handle_.get(), context.data(), context.size(), ids, capacity,
                                                 count, error);
            });
    }
    // What a session with these options would allocate, to the byte.
    edgekit_memory_plan plan(const SessionOptions& options = {}) const {
        edgekit_memory_plan plan{};
        plan.struct_size = sizeof plan;
        detail::call(edgekit_plan, handle_.get(), &options, &plan);
        return plan;
    }
    edgekit_model* handle() const noexcept { return handle_.get(); }

private:
    std::shared_ptr<edgekit_model> handle_;
};

// The plan for a package that is not opened yet, read from its header.
inline edgekit_memory_plan can_load(const std::string& path, const SessionOptions& options = {}) {
    edgekit_memory_plan plan{};
    plan.struct_size = sizeof plan;
    detail::call(edgekit_can_load, path.c_str(), &options, &plan);
    return plan;
}

// Text and tokens are valid until the generation's next event.
class Event {
public:
    edgekit_event_kind kind() const noexcept { return event_.kind; }
    bool done() const noexcept { return event_.kind == EDGEKIT_EVENT_DONE; }
    // Whole code points; empty unless kind() is EDGEKIT_EVENT_TEXT, and perhaps then.
    std::string_view text() const noexcept { return {event_.text.data, event_.text.size}; }
    std::span<const int32_t> tokens() const noexcept { return {event_.tokens, event_.token_count}; }
    // What was evicted; why the generation ended, and its statistics.
    const edgekit_event* operator->() const noexcept { return &event_; }

private:
    friend class Generation;
    edgekit_event event_{};
};

// A running generation: an input range of events, the last of them done(). Leaving the loop early ends it;
// the session's next generation ends it too, without a done(). It must not outlive its session.
class Generation {
public:
    class Iterator {
    public:
        using value_type = Event;
        using difference_type = std::ptrdiff_t;
        explicit Iterator(Generation* generation) : generation_(generation) {}
        const Event& operator*() const noexcept { return generation_->event_; }
        const Event* operator->() const noexcept { return &generation_->event_; }
        Iterator& operator++() {
            if (!generation_->advance()) generation_ = nullptr;
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const noexcept { return !generation_; }

    private:
        Generation* generation_;
    };

    // `latest` counts the session's generations: the newest alone is the session's to go on with.
    Generation(edgekit_session* session, std::shared_ptr<uint64_t> latest)
        : session_(session), latest_(std::move(latest)), number_(++*latest_) {}
    Generation(Generation&& other) noexcept
        : session_(std::exchange(other.session_, nullptr)),
          latest_(other.latest_),
          number_(other.number_),
          event_(other.event_) {}
    Generation& operator=(Generation&&) = delete;
    ~Generation() {
        if (!running()) return;
        edgekit_session_cancel(session_);
        edgekit_event event{};
        event.struct_size = sizeof event;
        while (edgekit_session_next(session_, &event, nullptr) == EDGEKIT_OK &&
               event.kind != EDGEKIT_EVENT_DONE) {
        }
    }

    Iterator begin() { return Iterator(advance() ? this : nullptr); }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    bool running() const noexcept { return session_ && number_ == *latest_; }

    // Whether there is another event.
    bool advance() {
        if (!running()) return false;
        edgekit_session* session = std::exchange(session_, nullptr);  // an error ends the generation too
        event_.event_ = {};
        event_.event_.struct_size = sizeof(edgekit_event);
        detail::call(edgekit_session_next, session, &event_.event_);
        if (!event_.done()) session_ = session;
        return true;
    }

    edgekit_session* session_;  // null once it has ended
    std::shared_ptr<uint64_t> latest_;
    uint64_t number_;
    Event event_;
};

class Session {
public:
    explicit Session(const Model& model, const SessionOptions& options = {}) : model_(model) {
        edgekit_session* handle = nullptr;
        detail::call(edgekit_session_create, model.handle(), &options, &handle);
        handle_.reset(handle);
    }

    // What a generation takes that is given no options: the sampling that the package's makers advise.
    GenerateOptions options() const { return GenerateOptions(model_.handle()); }
    Generation generate(std::string_view prompt, const std::optional<GenerateOptions>& options = {}) {
        return start(options, [&](edgekit_generate_options& native) {
            native.prompt = prompt.data() ? prompt.data() : "";
            native.prompt_size = prompt.size();
        });
    }
    Generation generate(std::span<const int32_t> ids, const std::optional<GenerateOptions>& options = {}) {
        return start(options, [&](edgekit_generate_options& native) {
            native.prompt_ids = ids.data();
            native.prompt_ids_count = ids.size();
        });
    }
    // The answer to a conversation; `context` as in Model::render_chat.
    Generation chat(std::string_view context, const std::optional<GenerateOptions>& options = {}) {
        return start(options, [&](edgekit_generate_options& native) {
            native.messages = context.data() ? context.data() : "";
            native.messages_size = context.size();
        });
    }
    // Appends tokens to the cache. float32 logits [ids.size() or 1, vocab_size].
    std::vector<float> forward(std::span<const int32_t> ids, bool all_logits = false) {
        std::vector<float> logits((all_logits ? ids.size() : 1) *
                                  static_cast<size_t>(model_.info().vocab_size));
        detail::call(edgekit_session_forward, handle_.get(), ids.data(), ids.size(), int{all_logits},
                     logits.data());
        return logits;
    }
    // From any thread: what runs ends soon, as EDGEKIT_FINISH_CANCELLED.
    void cancel() noexcept { edgekit_session_cancel(handle_.get()); }

    // Tokens processed since the start, evicted ones included.
    uint64_t position() const noexcept { return edgekit_session_position(handle_.get()); }
    edgekit_memory_plan plan() const {
        edgekit_memory_plan plan{};
        plan.struct_size = sizeof plan;
        detail::call(edgekit_session_get_plan, handle_.get(), &plan);
        return plan;
    }
    void reset() { detail::call(edgekit_session_reset, handle_.get()); }
    void rewind(uint64_t count) { detail::call(edgekit_session_rewind, handle_.get(), count); }
    Session fork() const {
        edgekit_session* handle = nullptr;
        detail::call(edgekit_session_fork, handle_.get(), &handle);
        return Session(model_, handle);
    }
    void save(const std::string& path) const {
        detail::call(edgekit_session_save, handle_.get(), path.c_str());
    }
    void restore(const std::string& path) {
        detail::call(edgekit_session_restore, handle_.get(), path.c_str());
    }
    edgekit_session* handle() const noexcept { return handle_.get(); }

private:
    Session(const Model& model, edgekit_session* handle) : model_(model), handle_(handle) {}

    template <class SetPrompt>
    Generation start(const std::optional<GenerateOptions>& given, SetPrompt set_prompt) {
        const GenerateOptions chosen = given ? *given : options();
        edgekit_generate_options native = chosen;
        set_prompt(native);
        std::vector<edgekit_span> stops;
        for (const std::string& stop : chosen.stops) stops.push_back({stop.data(), stop.size()});
        native.stops = stops.data();
        native.stops_count = stops.size();
        native.stop_ids = chosen.stop_ids.data();
        native.stop_ids_count = chosen.stop_ids.size();
        std::vector<int32_t> ids;
        std::vector<float> values;
        for (const auto& [id, value] : chosen.logit_bias) {
            ids.push_back(id);
            values.push_back(value);
        }
        native.bias_ids = ids.data();
        native.bias_values = values.data();
        native.bias_count = ids.size();
        detail::call(edgekit_session_generate, handle_.get(), &native);
        return Generation(handle_.get(), generations_);
    }

    struct Free {
        void operator()(edgekit_session* handle) const noexcept { edgekit_session_free(handle); }
    };
    Model model_;
    std::unique_ptr<edgekit_session, Free> handle_;
    std::shared_ptr<uint64_t> generations_ = std::make_shared<uint64_t>(0);
};

}  // namespace v1
}  // namespace edgekit
