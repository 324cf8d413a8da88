#pragma once
// What the tests of the engine share: the small packages of tests/golden/engine through edgekit.h, over any
// backend, and a count of what was checked.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "api/handles.h"
#include "backend/backend.h"
#include "edgekit/edgekit.h"
#include "format/json.h"

inline const std::string kGolden = "tests/golden/engine/";
inline int failures = 0;
inline int checks = 0;
inline edgekit_error error;
inline const edgekit::BackendKind* backend = &edgekit::kCpuBackend;  // of the models that open_model opens

inline void check(bool ok, const std::string& what) {
    ++checks;
    if (ok) return;
    ++failures;
    std::printf("FAILED (%s): %s\n", backend->name, what.c_str());
}

// The exit status of a test program.
inline int report() {
    std::printf("%d checks, %d failed\n", checks, failures);
    return failures ? 1 : 0;
}

inline void expect_ok(edgekit_status status, const std::string& what) {
    check(status == EDGEKIT_OK, what + ": " + error.message);
}

inline void expect(edgekit_status status, edgekit_status wanted, const std::string& what) {
    check(status == wanted, what + " gives " + edgekit_status_name(status) + ", not " +
                                edgekit_status_name(wanted) +
                                (status ? std::string(": ") + error.message : ""));
}

inline std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline edgekit_model* open_model(const std::string& file, const char* isa = nullptr, uint32_t threads = 1) {
    edgekit_model_options options;
    edgekit_model_options_init(&options);
    options.isa = isa;
    options.n_threads = threads;
    options.webgpu_library = std::getenv("EDGEKIT_WEBGPU");  // NOLINT(concurrency-mt-unsafe): read only
    edgekit_model* model = nullptr;
    expect_ok(edgekit_model_open((kGolden + file).c_str(), &options, &model, &error), "open " + file);
    if (model && backend != &edgekit::kCpuBackend) {
        model->model = std::make_shared<const edgekit::Model>(
            std::make_unique<edgekit::MappedFile>(kGolden + file), options, *backend);
        model->tokenizer.tokenizer = model->model->tokenizer();
    }
    return model;
}

inline edgekit_session* create_session(edgekit_model* model, const edgekit_session_options& options) {
    edgekit_session* session = nullptr;
    expect_ok(edgekit_session_create(model, &options, &session, &error), "create a session");
    return session;
}

// {"window", "sinks", "kv"} as the golden cases have them.
inline edgekit_session* create_session(edgekit_model* model, const edgekit::json::Value& wanted) {
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    if (const auto* v = wanted.find("window")) options.window = static_cast<uint32_t>(v->as_int());
    if (const auto* v = wanted.find("sinks")) options.sinks = static_cast<uint32_t>(v->as_int());
    if (const auto* v = wanted.find("kv")) {
        const std::string& kv = v->as_string();
        options.kv_type = kv == "f32"    ? EDGEKIT_KV_F32
                          : kv == "f16"  ? EDGEKIT_KV_F16
                          : kv == "int8" ? EDGEKIT_KV_INT8
                                         : EDGEKIT_KV_INT4;
    }
    return create_session(model, options);
}

struct Generated {
    std::vector<int32_t> ids;
    std::string text;
    uint64_t evicted = 0;
    edgekit_event done{};
};

// Runs what edgekit_session_generate began.
inline Generated finish(edgekit_session* session) {
    Generated out;
    edgekit_event event{};
    event.struct_size = sizeof event;
    while (edgekit_session_next(session, &event, &error) == EDGEKIT_OK) {
        if (event.kind == EDGEKIT_EVENT_TEXT) {
            out.ids.insert(out.ids.end(), event.tokens, event.tokens + event.token_count);
            out.text.append(event.text.data, event.text.size);
        } else if (event.kind == EDGEKIT_EVENT_EVICTED) {
            out.evicted += event.evicted_count;
        } else if (event.kind == EDGEKIT_EVENT_DONE) {
            out.done = event;
            break;
        }
    }
    return out;
}

inline Generated generate(edgekit_session* session, const edgekit_generate_options& options) {
    expect_ok(edgekit_session_generate(session, &options, &error), "generate");
    return finish(session);
}

inline std::vector<int32_t> ids_of(const edgekit::json::Value& array) {
    std::vector<int32_t> ids;
    for (const auto& id : array.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
    return ids;
}
