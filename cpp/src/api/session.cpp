// edgekit.h: memory plans and sessions.

#include "engine/session.h"

#include "api/boundary.h"
#include "api/handles.h"

using edgekit::api::guarded;
using edgekit::api::read_options;
using edgekit::api::reading;
using edgekit::api::report;
using edgekit::api::require;
using edgekit::api::write_result;

extern "C" {

void edgekit_session_options_init(edgekit_session_options* options) {
    *options = {};
    options->struct_size = sizeof *options;
    options->sinks = 4;
}

edgekit_status edgekit_plan(const edgekit_model* model, const edgekit_session_options* options,
                            edgekit_memory_plan* plan, edgekit_error* error) {
    return guarded(error, [&] {
        require(model, "the model is NULL");
        const edgekit::Model& m = *model->model;
        const auto chosen = read_options(options, edgekit_session_options_init);
        write_result(plan_session(m.spec(), m.weights(), m.text_bytes(), m.team().size(), chosen).memory,
                     plan);
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_can_load(const char* path, const edgekit_session_options* options,
                                edgekit_memory_plan* plan, edgekit_error* error) {
    return guarded(error, [&] {
        require(path, "path is NULL");
        const auto chosen = read_options(options, edgekit_session_options_init);
        const auto needed = reading(path, [&] {
            const edgekit::MappedFile bytes{std::string(path)};
            const edgekit::EdgeFile file(bytes.bytes());
            const auto spec = edgekit::ModelSpec::parse(file.spec());
            const edgekit::Weights weights(spec, file);
            const uint64_t text_bytes = file.tensor("tokenizer").size() + file.tensor("chat_template").size();
            return plan_session(spec, weights, text_bytes,
                                edgekit::default_threads(edgekit::survey_processors()), chosen);
        });
        write_result(needed.memory, plan);
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_create(edgekit_model* model, const edgekit_session_options* options,
                                      edgekit_session** out, edgekit_error* error) {
    return guarded(error, [&] {
        require(model && out, "the model or out is NULL");
        const auto chosen = read_options(options, edgekit_session_options_init);
        *out = new edgekit_session{std::make_unique<edgekit::Session>(model->model, chosen)};
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
        require(session && (ids || !count), "the session or the ids are NULL");
        session->session->forward(ids, count, all_logits != 0, logits);
        return EDGEKIT_OK;
    });
}

void edgekit_generate_options_init(edgekit_generate_options* options, const edgekit_model* model) {
    static_cast<void>(model);
    *options = {};
    options->struct_size = sizeof *options;
    options->prompt_flags = EDGEKIT_ADD_SPECIAL | EDGEKIT_PARSE_SPECIAL;
    options->top_p = 1;
    options->typical_p = 1;
    options->repetition_penalty = 1;
    options->penalty_window = 64;
    options->speculation = -1;
}

edgekit_status edgekit_session_generate(edgekit_session* session, const edgekit_generate_options* options,
                                        edgekit_error* error) {
    return guarded(error, [&] {
        require(session && options, "the session or the options are NULL");
        session->session->generate(read_options<edgekit_generate_options>(
            options,
            [](edgekit_generate_options* defaults) { edgekit_generate_options_init(defaults, nullptr); }));
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_session_next(edgekit_session* session, edgekit_event* event, edgekit_error* error) {
    return guarded(error, [&] {
        require(session && event, "the session or the event is NULL");
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
