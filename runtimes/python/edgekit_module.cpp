// edgekit.runtimes._edgekit: edgekit.h as Python sees it. Glue only: every rule and every default is the
// engine's.
//
// A call that computes releases the GIL, and now and then takes it back to look for signals: Ctrl-C ends a
// long prompt at once. edgekit/model.py lets one thread into a session at a time; `cancel` alone may come
// from others.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "edgekit/edgekit.h"
#include "encode_block32.h"

namespace py = pybind11;

namespace {

// ---- errors

struct Failure {
    edgekit_status status;
    std::string message;
    uint64_t needed_bytes = 0;
};

const char* python_name(edgekit_status status) {
    switch (status) {
        case EDGEKIT_INVALID_ARGUMENT:
            return "UsageError";
        case EDGEKIT_INVALID_FILE:
            return "InvalidFile";
        case EDGEKIT_UNSUPPORTED:
            return "UnsupportedModel";
        case EDGEKIT_OUT_OF_MEMORY:
            return "OutOfMemory";
        case EDGEKIT_OVER_BUDGET:
            return "OutOfBudget";
        case EDGEKIT_IO_ERROR:
            return "IoFailure";
        case EDGEKIT_TEMPLATE_ERROR:
            return "TemplateError";
        case EDGEKIT_CANCELLED:
            return "Cancelled";
        case EDGEKIT_CONTEXT_FULL:
            return "ContextFull";
        default:
            return "InternalError";
    }
}

void raise(const Failure& failure) {
    const py::object type = py::module_::import("edgekit.errors").attr(python_name(failure.status));
    const py::object error = failure.status == EDGEKIT_OVER_BUDGET
                                 ? type(failure.message, py::arg("needed_bytes") = failure.needed_bytes)
                                 : type(failure.message);
    PyErr_SetObject(type.ptr(), error.ptr());
}

// Calls `function(arguments…, &error)` and throws what it reports.
template <class Function, class... Arguments>
void call(Function function, Arguments... arguments) {
    edgekit_error error{};
    const edgekit_status status = function(arguments..., &error);
    if (status != EDGEKIT_OK) throw Failure{status, error.message, error.needed_bytes};
}

// Calls a function that fills `capacity` items, a second time with what it needs when the first guess was too
// small.
template <class Buffer, class Fill>
void fill(Buffer& buffer, size_t guess, Fill function) {
    buffer.resize(guess);
    for (;;) {
        size_t size = 0;
        edgekit_error error{};
        const edgekit_status status = function(buffer.data(), buffer.size(), &size, &error);
        if (status == EDGEKIT_OK) return buffer.resize(size);
        if (status != EDGEKIT_BUFFER_TOO_SMALL) throw Failure{status, error.message, error.needed_bytes};
        buffer.resize(size);
    }
}

// ---- options: the name in Python and the member it sets

template <class Options>
struct Member {
    const char* name;
    void (*set)(Options&, py::handle);
};

template <class Options, class Value, Value Options::* member>
void set(Options& options, py::handle value) {
    options.*member = value.cast<Value>();
}

#define EDGEKIT_MEMBER(options, member) {#member, set<options, decltype(options::member), &options::member>}

struct Name {
    const char* name;
    int value;
};
constexpr Name kv_names[] = {{"auto", EDGEKIT_KV_AUTO},
                             {"f32", EDGEKIT_KV_F32},
                             {"f16", EDGEKIT_KV_F16},
                             {"int8", EDGEKIT_KV_INT8},
                             {"int4", EDGEKIT_KV_INT4}};
constexpr Name on_full_names[] = {
    {"evict", EDGEKIT_ON_FULL_EVICT}, {"stop", EDGEKIT_ON_FULL_STOP}, {"error", EDGEKIT_ON_FULL_ERROR}};
constexpr Name finish_names[] = {{"eos", EDGEKIT_FINISH_EOS},
                                 {"length", EDGEKIT_FINISH_LENGTH},
                                 {"stop", EDGEKIT_FINISH_STOP},
                                 {"cancelled", EDGEKIT_FINISH_CANCELLED},
                                 {"context_full", EDGEKIT_FINISH_CONTEXT_FULL}};

template <size_t N>
int value_of(const Name (&names)[N], const char* what, py::handle name) {
    const std::string seen = py::str(name);
    std::string known;
    for (const Name& row : names) {
        if (seen == row.name) return row.value;
        known += std::string(known.empty() ? "" : ", ") + row.name;
    }
    throw Failure{EDGEKIT_INVALID_ARGUMENT,
                  std::string(what) + " is '" + seen + "'; choose one of: " + known};
}

template <size_t N>
const char* name_of(const Name (&names)[N], int value) {
    for (const Name& row : names)
        if (row.value == value) return row.name;
    return "unknown";
}

const Member<edgekit_session_options> session_members[] = {
    EDGEKIT_MEMBER(edgekit_session_options, window),
    EDGEKIT_MEMBER(edgekit_session_options, sinks),
    {"memory_budget", set<edgekit_session_options, uint64_t, &edgekit_session_options::memory_budget_bytes>},
    EDGEKIT_MEMBER(edgekit_session_options, chunk),
    {"kv", [](edgekit_session_options& o,
              py::handle v) { o.kv_type = edgekit_kv_type(value_of(kv_names, "kv", v)); }},
    {"on_full", [](edgekit_session_options& o,
                   py::handle v) { o.on_full = edgekit_on_full(value_of(on_full_names, "on_full", v)); }},
};

const Member<edgekit_generate_options> generate_members[] = {
    EDGEKIT_MEMBER(edgekit_generate_options, max_tokens),
    EDGEKIT_MEMBER(edgekit_generate_options, seed),
    EDGEKIT_MEMBER(edgekit_generate_options, temperature),
    EDGEKIT_MEMBER(edgekit_generate_options, top_k),
    EDGEKIT_MEMBER(edgekit_generate_options, top_p),
    EDGEKIT_MEMBER(edgekit_generate_options, min_p),
    EDGEKIT_MEMBER(edgekit_generate_options, typical_p),
    EDGEKIT_MEMBER(edgekit_generate_options, repetition_penalty),
    EDGEKIT_MEMBER(edgekit_generate_options, presence_penalty),
    EDGEKIT_MEMBER(edgekit_generate_options, frequency_penalty),
    EDGEKIT_MEMBER(edgekit_generate_options, penalty_window),
    EDGEKIT_MEMBER(edgekit_generate_options, speculation),
    {"ignore_eos", [](edgekit_generate_options& o, py::handle v) { o.ignore_eos = v.cast<bool>(); }},
    {"add_special_tokens",
     [](edgekit_generate_options& o, py::handle v) {
         o.prompt_flags =
             (o.prompt_flags & ~uint32_t{EDGEKIT_ADD_SPECIAL}) | (v.cast<bool>() ? EDGEKIT_ADD_SPECIAL : 0);
     }},
    {"parse_special",
     [](edgekit_generate_options& o, py::handle v) {
         o.prompt_flags = (o.prompt_flags & ~uint32_t{EDGEKIT_PARSE_SPECIAL}) |
                          (v.cast<bool>() ? EDGEKIT_PARSE_SPECIAL : 0);
     }},
    {"append",
     [](edgekit_generate_options& o, py::handle v) {
         o.prompt_mode = v.cast<bool>() ? EDGEKIT_PROMPT_APPEND : EDGEKIT_PROMPT_FROM_START;
     }},
};

template <class Options, size_t N>
void apply(Options& options, const Member<Options> (&members)[N], const py::kwargs& values) {
    for (const auto& [key, value] : values) {
        const std::string name = py::str(key);
        const Member<Options>* found = nullptr;
        for (const Member<Options>& member : members)
            if (name == member.name) found = &member;
        if (!found) throw Failure{EDGEKIT_INVALID_ARGUMENT, "there is no option '" + name + "'"};
        try {
            found->set(options, value);
        } catch (const py::cast_error&) {
            throw Failure{EDGEKIT_INVALID_ARGUMENT, name + " cannot be " + std::string(py::repr(value))};
        }
    }
}

edgekit_session_options session_options(const py::kwargs& values) {
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    apply(options, session_members, values);
    return options;
}

py::dict to_dict(const edgekit_memory_plan& plan) {
    py::dict out;
    out["weight_bytes"] = plan.weight_bytes;
    out["tokenizer_bytes"] = plan.tokenizer_bytes;
    out["cache_bytes"] = plan.cache_bytes;
    out["activation_bytes"] = plan.activation_bytes;
    out["model_bytes"] = plan.model_bytes;
    out["total_bytes"] = plan.total_bytes;
    out["window"] = plan.window;
    out["sinks"] = plan.sinks;
    out["chunk"] = plan.chunk;
    out["kv"] = name_of(kv_names, plan.kv_type);
    return out;
}

// ---- compiled tokenizers and templates that come as bytes

// The engine wants a package's alignment, which a Python bytes object does not have.
class AlignedBytes {
public:
    explicit AlignedBytes(const py::buffer& source) {
        const py::buffer_info info = source.request();
        if (!PyBuffer_IsContiguous(info.view(), 'C'))
            throw Failure{EDGEKIT_INVALID_ARGUMENT, "the bytes are not contiguous"};
        size_ = static_cast<size_t>(info.size * info.itemsize);
        data_.reset(static_cast<char*>(::operator new(size_ + 1, alignment)));
        std::memcpy(data_.get(), info.ptr, size_);
    }
    const void* data() const { return data_.get(); }
    size_t size() const { return size_; }

private:
    static constexpr std::align_val_t alignment{64};
    struct Free {
        void operator()(char* data) const { ::operator delete(data, alignment); }
    };
    std::unique_ptr<char, Free> data_;
    size_t size_ = 0;
};

class Model;

class Tokenizer {
public:
    explicit Tokenizer(const py::buffer& blob) : blob_(blob) {
        edgekit_tokenizer* handle = nullptr;
        call(edgekit_tokenizer_open, blob_->data(), blob_->size(), &handle);
        owned_.reset(handle);
        handle_ = handle;
    }
    Tokenizer(std::shared_ptr<const Model> model, const edgekit_tokenizer* handle)
        : model_(std::move(model)), handle_(handle) {}

    py::list encode(std::string_view text, bool add_special_tokens, bool parse_special) const {
        const uint32_t flags =
            (add_special_tokens ? EDGEKIT_ADD_SPECIAL : 0) | (parse_special ? EDGEKIT_PARSE_SPECIAL : 0);
        std::vector<int32_t> ids;
        {
            py::gil_scoped_release release;
            fill(ids, text.size() / 2 + 16,
                 [&](int32_t* out, size_t capacity, size_t* count, edgekit_error* error) {
                     return edgekit_tokenizer_encode(handle_, text.data(), text.size(), flags, out, capacity,
                                                     count, error);
                 });
        }
        py::list out(ids.size());
        for (size_t i = 0; i < ids.size(); ++i)
            PyList_SET_ITEM(out.ptr(), py::ssize_t(i), PyLong_FromLong(ids[i]));
        return out;
    }

    std::string decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const {
        py::gil_scoped_release release;
        std::string text;
        fill(text, ids.size() * 8 + 16, [&](char* out, size_t capacity, size_t* size, edgekit_error* error) {
            return edgekit_tokenizer_decode(handle_, ids.data(), ids.size(), skip_special_tokens, out,
                                            capacity, size, error);
        });
        return text;
    }

    py::bytes token_bytes(int32_t id) const {
        edgekit_span span{};
        call(edgekit_tokenizer_token_bytes, handle_, id, &span);
        return {span.data, span.size};
    }

    int32_t token_to_id(std::string_view text) const {
        return edgekit_tokenizer_token_to_id(handle_, text.data(), text.size());
    }

    py::dict info() const {
        edgekit_tokenizer_info info{};
        info.struct_size = sizeof info;
        call(edgekit_tokenizer_get_info, handle_, &info);
        py::dict out;
        out["vocab_size"] = info.vocab_size;
        out["bos_id"] = info.bos_id;
        out["eos_id"] = info.eos_id;
        out["pad_id"] = info.pad_id;
        return out;
    }

    const edgekit_tokenizer* handle() const { return handle_; }

private:
    struct Free {
        void operator()(edgekit_tokenizer* handle) const { edgekit_tokenizer_free(handle); }
    };
    std::shared_ptr<const Model> model_;  // a borrowed tokenizer lives as long as its model
    std::optional<AlignedBytes> blob_;
    std::unique_ptr<edgekit_tokenizer, Free> owned_;
    const edgekit_tokenizer* handle_ = nullptr;
};

class ChatTemplate {
public:
    explicit ChatTemplate(const py::buffer& blob) : blob_(blob) {
        edgekit_template* handle = nullptr;
        call(edgekit_template_open, blob_.data(), blob_.size(), &handle);
        handle_.reset(handle);
    }

    std::string render(std::string_view context) const {
        py::gil_scoped_release release;
        std::string text;
        fill(text, context.size() * 2 + 1024,
             [&](char* out, size_t capacity, size_t* size, edgekit_error* error) {
                 return edgekit_template_render(handle_.get(), context.data(), context.size(), out, capacity,
                                                size, error);
             });
        return text;
    }

    std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view context,
                                std::string_view package) const {
        py::gil_scoped_release release;
        std::vector<int32_t> ids;
        fill(ids, context.size() + 256, [&](int32_t* out, size_t capacity, size_t* n, edgekit_error* error) {
            return edgekit_template_encode(handle_.get(), tokenizer.handle(), context.data(), context.size(),
                                           package.data(), package.size(), out, capacity, n, error);
        });
        return ids;
    }

private:
    struct Free {
        void operator()(edgekit_template* handle) const { edgekit_template_free(handle); }
    };
    AlignedBytes blob_;
    std::unique_ptr<edgekit_template, Free> handle_;
};

// ---- model

class Model : public std::enable_shared_from_this<Model> {
public:
    Model(const std::string& path, uint32_t n_threads, const std::optional<std::string>& isa,
          bool verify_hashes, bool in_memory, const std::string& backend,
          const std::optional<std::string>& webgpu_library) {
        py::gil_scoped_release release;
        edgekit_model_options options;
        edgekit_model_options_init(&options);
        options.n_threads = n_threads;
        options.isa = isa ? isa->c_str() : nullptr;
        options.verify_hashes = verify_hashes;
        options.in_memory = in_memory;
        options.backend = backend.c_str();
        options.webgpu_library = webgpu_library ? webgpu_library->c_str() : nullptr;
        edgekit_model* handle = nullptr;
        call(edgekit_model_open, path.c_str(), &options, &handle);
        handle_.reset(handle);
        info_.struct_size = sizeof info_;
        call(edgekit_model_get_info, handle_.get(), &info_);
    }

    edgekit_model* handle() const { return handle_.get(); }
    size_t vocab_size() const { return static_cast<size_t>(info_.vocab_size); }

    py::dict info() const {
        py::dict out;
        out["vocab_size"] = info_.vocab_size;
        out["n_layers"] = info_.n_layers;
        out["d_model"] = info_.d_model;
        out["context"] = info_.context;
        out["has_chat_template"] = info_.has_chat_template != 0;
        out["threads"] = info_.n_threads;
        out["file_bytes"] = info_.file_bytes;
        out["weight_bytes"] = info_.weight_bytes;
        out["n_parameters"] = info_.n_parameters;
        out["isa"] = text(info_.isa);
        out["model_type"] = text(info_.model_type);
        out["scheme"] = text(info_.scheme);
        out["relayed"] = text(info_.relayed);
        return out;
    }
    py::str metadata() const { return text(info_.metadata); }

    std::unique_ptr<Tokenizer> tokenizer() const {
        const edgekit_tokenizer* tokenizer = edgekit_model_tokenizer(handle_.get());
        return tokenizer ? std::make_unique<Tokenizer>(shared_from_this(), tokenizer) : nullptr;
    }

    std::vector<int32_t> encode_chat(std::string_view context) const {
        py::gil_scoped_release release;
        std::vector<int32_t> ids;
        fill(ids, context.size() + 1024,
             [&](int32_t* out, size_t capacity, size_t* count, edgekit_error* error) {
                 return edgekit_model_encode_chat(handle_.get(), context.data(), context.size(), out,
                                                  capacity, count, error);
             });
        return ids;
    }

    std::string render_chat(std::string_view context) const {
        py::gil_scoped_release release;
        std::string text;
        fill(text, context.size() * 2 + 1024,
             [&](char* out, size_t capacity, size_t* size, edgekit_error* error) {
                 return edgekit_model_render_chat(handle_.get(), context.data(), context.size(), out,
                                                  capacity, size, error);
             });
        return text;
    }

    py::dict plan(const py::kwargs& values) const {
        const edgekit_session_options options = session_options(values);
        edgekit_memory_plan plan{};
        plan.struct_size = sizeof plan;
        call(edgekit_plan, handle_.get(), &options, &plan);
        return to_dict(plan);
    }

private:
    static py::str text(edgekit_span span) { return {span.data, span.size}; }
    struct Free {
        void operator()(edgekit_model* handle) const { edgekit_model_free(handle); }
    };
    std::unique_ptr<edgekit_model, Free> handle_;
    edgekit_model_info info_{};
};

// ---- session

// What Python's signal handlers raise while the engine computes.
class Signals {
public:
    // The poll of a session, called without the GIL: 1 when a handler has raised.
    int arrived() {
        const auto now = std::chrono::steady_clock::now();
        if (now - looked_ < std::chrono::milliseconds(20)) return 0;
        looked_ = now;
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() == 0) return 0;
        raised_ = std::make_exception_ptr(py::error_already_set());
        return 1;
    }

    // Does `work`, then throws what a handler raised meanwhile.
    template <class Work>
    void guard(Work work) {
        try {
            work();
        } catch (const Failure&) {
            if (!raised_) throw;
        }
        if (raised_) std::rethrow_exception(std::exchange(raised_, nullptr));
    }

private:
    std::chrono::steady_clock::time_point looked_;
    std::exception_ptr raised_;
};
thread_local Signals signals;  // of the thread that computes: one call at a time

class Session {
public:
    Session(std::shared_ptr<const Model> model, const py::kwargs& values) : model_(std::move(model)) {
        edgekit_session_options options = session_options(values);
        options.poll = [](void*) { return signals.arrived(); };
        edgekit_session* handle = nullptr;
        py::gil_scoped_release release;
        call(edgekit_session_create, model_->handle(), &options, &handle);
        handle_.reset(handle);
    }

    uint64_t position() const { return edgekit_session_position(handle_.get()); }

    py::dict plan() const {
        edgekit_memory_plan plan{};
        plan.struct_size = sizeof plan;
        call(edgekit_session_get_plan, handle_.get(), &plan);
        return to_dict(plan);
    }

    // float32 [count, vocab_size], or [1, vocab_size] of the last token alone.
    py::array_t<float> forward(const py::array_t<int32_t, py::array::c_style>& ids, bool all_logits) {
        const auto count = static_cast<size_t>(ids.size());
        const size_t rows = count == 0 ? 0 : all_logits ? count : 1;
        py::array_t<float> logits({rows, model_->vocab_size()});
        const int32_t* in = ids.data();
        float* out = logits.mutable_data();
        computing([&] { call(edgekit_session_forward, handle_.get(), in, count, int{all_logits}, out); });
        return logits;
    }

    // One of `prompt`, `ids` and `chat` (JSON, as edgekit_model_render_chat takes it).
    void generate(const std::optional<std::string>& prompt, const std::vector<int32_t>& ids,
                  const std::optional<std::string>& chat, const std::vector<std::string>& stop,
                  const std::vector<int32_t>& stop_ids,
                  const std::vector<std::pair<int32_t, float>>& logit_bias, const py::kwargs& values) {
        edgekit_generate_options options;
        edgekit_generate_options_init(&options, model_->handle());
        apply(options, generate_members, values);
        if (chat) {
            options.messages = chat->data();
            options.messages_size = chat->size();
        } else if (prompt) {
            options.prompt = prompt->data();
            options.prompt_size = prompt->size();
        } else {
            options.prompt_ids = ids.data();
            options.prompt_ids_count = ids.size();
        }
        options.stop_ids = stop_ids.data();
        options.stop_ids_count = stop_ids.size();
        std::vector<edgekit_span> stops;
        for (const std::string& text : stop) stops.push_back({text.data(), text.size()});
        options.stops = stops.data();
        options.stops_count = stops.size();
        std::vector<int32_t> bias_ids;
        std::vector<float> bias_values;
        for (const auto& [id, value] : logit_bias) {
            bias_ids.push_back(id);
            bias_values.push_back(value);
        }
        options.bias_ids = bias_ids.data();
        options.bias_values = bias_values.data();
        options.bias_count = bias_ids.size();
        computing([&] { call(edgekit_session_generate, handle_.get(), &options); });
        interrupted_.reset();
    }

    // ("text", text, tokens) | ("evicted", first, count) | ("done", facts, statistics). An event that a
    // signal came with is given by the call after the one that raised.
    py::tuple next() {
        if (interrupted_) return std::exchange(interrupted_, std::nullopt).value();
        edgekit_event event{};
        event.struct_size = sizeof event;
        std::string text;
        std::vector<int32_t> tokens;
        signals.guard([&] {
            {
                py::gil_scoped_release release;
                call(edgekit_session_next, handle_.get(), &event);
                if (event.kind == EDGEKIT_EVENT_TEXT) {
                    text.assign(event.text.data, event.text.size);
                    tokens.assign(event.tokens, event.tokens + event.token_count);
                }
            }
            interrupted_ = to_tuple(event, text, tokens);
        });
        return std::exchange(interrupted_, std::nullopt).value();
    }

    void cancel() { edgekit_session_cancel(handle_.get()); }
    void reset() {
        computing([&] { call(edgekit_session_reset, handle_.get()); });
    }
    void rewind(uint64_t count) {
        computing([&] { call(edgekit_session_rewind, handle_.get(), count); });
    }
    std::unique_ptr<Session> fork() const {
        edgekit_session* handle = nullptr;
        computing([&] { call(edgekit_session_fork, handle_.get(), &handle); });
        return std::unique_ptr<Session>(new Session(model_, handle));
    }
    void save(const std::string& path) const {
        computing([&] { call(edgekit_session_save, handle_.get(), path.c_str()); });
    }
    void restore(const std::string& path) {
        computing([&] { call(edgekit_session_restore, handle_.get(), path.c_str()); });
    }

private:
    Session(std::shared_ptr<const Model> model, edgekit_session* handle)
        : model_(std::move(model)), handle_(handle) {}

    template <class Work>
    void computing(Work work) const {
        signals.guard([&] {
            py::gil_scoped_release release;
            work();
        });
    }
    static py::tuple to_tuple(const edgekit_event& event, const std::string& text,
                              const std::vector<int32_t>& tokens) {
        switch (event.kind) {
            case EDGEKIT_EVENT_TEXT:
                return py::make_tuple("text", text, py::tuple(py::cast(tokens)));
            case EDGEKIT_EVENT_EVICTED:
                return py::make_tuple("evicted", event.evicted_first, event.evicted_count);
            case EDGEKIT_EVENT_PROMPT:  // not asked for, nor
            case EDGEKIT_EVENT_MOVED:
            case EDGEKIT_EVENT_DONE:
                break;
        }
        py::dict facts;
        facts["finish"] = name_of(finish_names, event.finish);
        facts["seed"] = event.seed;
        facts["taken_back"] = event.taken_back;
        facts["relayed"] = py::str(event.relayed.data, event.relayed.size);
        py::dict statistics;
        statistics["prompt_tokens"] = event.prompt_tokens;
        statistics["cached_tokens"] = event.cached_tokens;
        statistics["generated_tokens"] = event.generated_tokens;
        statistics["drafted_tokens"] = event.drafted_tokens;
        statistics["accepted_tokens"] = event.accepted_tokens;
        statistics["prefill_ms"] = event.prefill_ms;
        statistics["first_token_ms"] = event.first_token_ms;
        statistics["decode_ms"] = event.decode_ms;
        return py::make_tuple("done", facts, statistics);
    }
    struct Free {
        void operator()(edgekit_session* handle) const { edgekit_session_free(handle); }
    };
    std::shared_ptr<const Model> model_;
    std::unique_ptr<edgekit_session, Free> handle_;
    std::optional<py::tuple> interrupted_;
};

py::dict can_load(const std::string& path, const py::kwargs& values) {
    const edgekit_session_options options = session_options(values);
    edgekit_memory_plan plan{};
    plan.struct_size = sizeof plan;
    call(edgekit_can_load, path.c_str(), &options, &plan);
    return to_dict(plan);
}

// ---- conversion

// Tiles `[n / 16, tile_bytes]` of float32 rows `[n, k]`; `starts`: int8 `[starts, 256]`, `importance` `[k]`
// or none.
using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

py::array_t<uint8_t> encode_block32(const Floats& rows, const std::optional<Floats>& importance,
                                    const std::string& starts, const std::string& codes, float steps,
                                    const std::vector<uint32_t>& fields) {
    namespace block32 = edgekit::block32;
    if (rows.ndim() != 2 || rows.shape(0) % block32::kTileRows != 0 || starts.size() % 256 != 0 ||
        codes.size() != 256)
        throw py::value_error("rows are [n, k] with n a multiple of 16, starts some 256 bytes, codes 256");
    if (importance && (importance->ndim() != 1 || importance->shape(0) != rows.shape(1)))
        throw py::value_error("importance has one number a column");
    for (const uint32_t width : fields)
        if (width != 1 && width != 2 && width != 4) throw py::value_error("fields have 1, 2 or 4 bits");
    block32::Coder coder{.starts = std::vector<std::array<float, 256>>(starts.size() / 256),
                         .codes = {},
                         .steps = steps,
                         .fields = fields};
    for (size_t i = 0; i < starts.size(); ++i)
        coder.starts[i / 256][i % 256] = static_cast<signed char>(starts[i]);
    std::memcpy(coder.codes.data(), codes.data(), 256);
    const auto k = static_cast<uint32_t>(rows.shape(1));
    std::vector<float> weights;
    if (importance) {
        weights.resize(size_t{(k + block32::kGroup - 1) / block32::kGroup} * block32::kGroup);
        std::copy_n(importance->data(), k, weights.begin());
    }
    const py::ssize_t tiles = rows.shape(0) / block32::kTileRows;
    const auto tile_bytes = static_cast<py::ssize_t>(coder.tile_bytes(k));
    py::array_t<uint8_t> packed({tiles, tile_bytes});
    const float* from = rows.data();
    uint8_t* to = packed.mutable_data();
    const py::gil_scoped_release release;
    for (py::ssize_t tile = 0; tile < tiles; ++tile)
        coder.encode(from + tile * block32::kTileRows * k, k, importance ? weights.data() : nullptr,
                     to + tile * tile_bytes);
    return packed;
}

}  // namespace

PYBIND11_MODULE(_edgekit, m) {
    if (edgekit_abi_version() != EDGEKIT_ABI_VERSION)
        throw py::import_error(
            "edgekit's library and its Python module are of different versions; install edgekit again");
    py::register_local_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const Failure& failure) {
            raise(failure);
        }
    });

    m.def("version", &edgekit_version);
    m.def("isas", &edgekit_isas);
    m.def("can_load", &can_load);
    m.def("encode_block32", &encode_block32);

    py::class_<Tokenizer>(m, "Tokenizer")
        .def(py::init<const py::buffer&>())
        .def("encode", &Tokenizer::encode)
        .def("decode", &Tokenizer::decode)
        .def("token_bytes", &Tokenizer::token_bytes)
        .def("token_to_id", &Tokenizer::token_to_id)
        .def("info", &Tokenizer::info);

    py::class_<ChatTemplate>(m, "ChatTemplate")
        .def(py::init<const py::buffer&>())
        .def("render", &ChatTemplate::render)
        .def("encode", &ChatTemplate::encode);

    py::class_<Model, std::shared_ptr<Model>>(m, "Model")
        .def(py::init<const std::string&, uint32_t, const std::optional<std::string>&, bool, bool,
                      const std::string&, const std::optional<std::string>&>())
        .def("info", &Model::info)
        .def("metadata", &Model::metadata)
        .def("tokenizer", &Model::tokenizer)
        .def("render_chat", &Model::render_chat)
        .def("encode_chat", &Model::encode_chat)
        .def("plan", &Model::plan);

    py::class_<Session>(m, "Session")
        .def(py::init<std::shared_ptr<Model>, const py::kwargs&>())
        .def("position", &Session::position)
        .def("plan", &Session::plan)
        .def("forward", &Session::forward)
        .def("generate", &Session::generate)
        .def("next", &Session::next)
        .def("cancel", &Session::cancel)
        .def("reset", &Session::reset)
        .def("rewind", &Session::rewind)
        .def("fork", &Session::fork)
        .def("save", &Session::save)
        .def("restore", &Session::restore);
}
