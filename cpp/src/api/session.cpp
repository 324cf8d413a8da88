// edgekit.h: memory plans and sessions.

#include "engine/session.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "api/boundary.h"
#include "api/handles.h"

using edgekit::api::guarded;
using edgekit::api::read_options;
using edgekit::api::reading;
using edgekit::api::report;
using edgekit::api::require;
using edgekit::api::require_enum;
using edgekit::api::require_items;
using edgekit::api::require_result;
using edgekit::api::write_result;

namespace {

edgekit_session_options checked(const edgekit_session_options* given) {
    const auto options = read_options(given, edgekit_session_options_init);
    require_enum(options.kv_type, EDGEKIT_KV_INT4, "kv_type");
    require_enum(options.on_full, EDGEKIT_ON_FULL_ERROR, "on_full");
    return options;
}

// The plan for a package of which only the header is read.
edgekit_memory_plan plan_package(std::span<const std::byte> bytes, const edgekit_session_options& options) {
    const edgekit::EdgeFile file(bytes);
    const auto spec = edgekit::ModelSpec::parse(file.spec());
    const edgekit::Weights weights(spec, file);
    const uint64_t text = edgekit::text_bytes(file);
    return plan_session(edgekit::kCpuBackend, spec, weights, text, text, 0,
                        options)  // a mapped file's is copied
        .memory;
}

edgekit_generate_options checked(const edgekit_generate_options* given) {
    const auto options = read_options<edgekit_generate_options>(
        given, [](edgekit_generate_options* out) { *out = edgekit::default_generate_options(); });
    require_items(options.prompt, options.prompt_size, "prompt");
    require_items(options.prompt_ids, options.prompt_ids_count, "prompt_ids");
    require_items(options.messages, options.messages_size, "messages");
    require_items(options.bias_ids, options.bias_count, "bias_ids");
    require_items(options.bias_values, options.bias_count, "bias_values");
    require_items(options.stop_ids, options.stop_ids_count, "stop_ids");
    require_items(options.stops, options.stops_count, "stops");
    for (size_t i = 0; i < options.stops_count; ++i)
        require_items(options.stops[i].data, options.stops[i].size, "a stop string");
    require((options.prompt_flags & ~uint32_t{EDGEKIT_ADD_SPECIAL | EDGEKIT_PARSE_SPECIAL}) == 0,
            "prompt_flags has unknown bits");
    require_enum(options.prompt_mode, EDGEKIT_PROMPT_APPEND, "prompt_mode");
    return options;
}

}  // namespace

extern "C" {

void edgekit_session_options_init(edgekit_session_options* options) {
    if (!options) return;
    *options = {};
    options->struct_size = sizeof *options;
    options->sinks = EDGEKIT_SINKS_AUTO;
}

edgekit_status edgekit_plan(const edgekit_model* model, const edgekit_session_options* options,
                            edgekit_memory_plan* plan, edgekit_error* error) {
    return guarded(error, [&] {
        require(model, "the model is NULL");
        require_result(plan);
        write_result(model->model->plan_session(checked(options)).memory, plan);
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_can_load(const char* path, const edgekit_session_options* options,
                                edgekit_memory_plan* plan, edgekit_error* error) {
    return guarded(error, [&] {
        require(path, "path is NULL");
        require_result(plan);
        const auto chosen = checked(options);
        const auto needed = reading(path, [&] {
            const edgekit::MappedFile bytes{std::string(path)};
            return plan_package(bytes.bytes(), chosen);
        });
        write_result(needed, plan);
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_can_load_header(const void* header, size_t header_size, uint64_t file_bytes,
                                       const edgekit_session_options* options, edgekit_memory_plan* plan,
                                       edgekit_error* error) {
    return guarded(error, [&] {
        require(header, "header is NULL");
        require_result(plan);
        const auto chosen = checked(options);
        uint64_t length = 0;
        if (header_size >= sizeof length) std::memcpy(&length, header, sizeof length);
        // A length that the file has no room for is the file's fault.
        const uint64_t wanted = length < file_bytes ? sizeof length + length : 2 * sizeof length;
        if (header_size < std::min(wanted, file_bytes))
            throw edgekit::Error(edgekit::Status::invalid_argument,
                                 "header_size is " + std::to_string(header_size) + "; the header needs " +
                                     std::to_string(wanted));
        if (file_bytes > SIZE_MAX)
            throw edgekit::Error(edgekit::Status::out_of_memory,
                                 "the file has " + std::to_string(file_bytes) +
                                     " bytes, more than this platform addresses; use a smaller model");
        // What lies behind the header is measured, not read.
        const std::span package(static_cast<const std::byte*>(header), static_cast<size_t>(file_bytes));
        write_result(plan_package(package, chosen), plan);
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_create(edgekit_model* model, const edgekit_session_options* options,
                                      edgekit_session** out, edgekit_error* error) {
    return guarded(error, [&] {
        require(model && out, "the model or out is NULL");
        *out = new edgekit_session{std::make_unique<edgekit::Session>(model->model, checked(options))};
        return EDGEKIT_OK;
    });
}

void edgekit_session_free(edgekit_session* session) { delete session; }

uint64_t edgekit_session_position(const edgekit_session* session) {
    return session ? session->session->position() : 0;
}

edgekit_status edgekit_session_get_plan(const edgekit_session* session, edgekit_memory_plan* plan,
                                        edgekit_error* error) {
    return guarded(error, [&] {
        require(session, "the session is NULL");
        write_result(session->session->plan(), plan);
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_forward(edgekit_session* session, const int32_t* ids, size_t count,
                                       int all_logits, float* logits, edgekit_error* error) {
    return guarded(error, [&] {
        require(session, "the session is NULL");
        require_items(ids, count, "ids");
        session->session->forward({ids, count}, all_logits != 0, logits);
        return EDGEKIT_OK;
    });
}

void edgekit_generate_options_init(edgekit_generate_options* options, const edgekit_model* model) {
    if (!options) return;
    *options = model ? model->model->generate_defaults() : edgekit::default_generate_options();
}

edgekit_status edgekit_session_generate(edgekit_session* session, const edgekit_generate_options* options,
                                        edgekit_error* error) {
    return guarded(error, [&] {
        require(session && options, "the session or the options are NULL");
        session->session->generate(checked(options));
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_next(edgekit_session* session, edgekit_event* event, edgekit_error* error) {
    return guarded(error, [&] {
        require(session, "the session is NULL");
        require_result(event);
        edgekit_event result{};
        session->session->next(result);
        write_result(result, event);
        return EDGEKIT_OK;
    });
}

void edgekit_session_cancel(edgekit_session* session) {
    if (session) session->session->cancel();
}

edgekit_status edgekit_session_reset(edgekit_session* session, edgekit_error* error) {
    return guarded(error, [&] {
        require(session, "the session is NULL");
        session->session->reset();
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_rewind(edgekit_session* session, uint64_t count, edgekit_error* error) {
    return guarded(error, [&] {
        require(session, "the session is NULL");
        session->session->rewind(count);
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_fork(const edgekit_session* session, edgekit_session** out,
                                    edgekit_error* error) {
    return guarded(error, [&] {
        require(session && out, "the session or out is NULL");
        *out = new edgekit_session{session->session->fork()};
        return EDGEKIT_OK;
    });
}

uint64_t edgekit_session_state_size(const edgekit_session* session) {
    return session ? session->session->state_size() : 0;
}

edgekit_status edgekit_session_state_write(const edgekit_session* session, void* data, size_t capacity,
                                           size_t* size, edgekit_error* error) {
    return guarded(error, [&]() -> edgekit_status {
        require(session && size, "the session or size is NULL");
        require_items(data, capacity, "the buffer");
        *size = session->session->state_size();
        if (capacity < *size)
            return report(error, EDGEKIT_BUFFER_TOO_SMALL, "the buffer is smaller than the session's state");
        session->session->write_state(static_cast<std::byte*>(data));
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_state_read(edgekit_session* session, const void* data, size_t size,
                                          edgekit_error* error) {
    return guarded(error, [&] {
        require(session && data, "the session or the data are NULL");
        session->session->read_state({static_cast<const std::byte*>(data), size});
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_save(const edgekit_session* session, const char* path, edgekit_error* error) {
    return guarded(error, [&] {
        require(session && path, "the session or the path is NULL");
        session->session->save(path);
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_restore(edgekit_session* session, const char* path, edgekit_error* error) {
    return guarded(error, [&] {
        require(session && path, "the session or the path is NULL");
        reading(path, [&] { session->session->restore(path); });
        return EDGEKIT_OK;
    });
}

}  // extern "C"
