// edgekit.h: versions and models.

#include "engine/model.h"

#include <array>
#include <string>
#include <string_view>

#include "api/boundary.h"
#include "api/handles.h"
#include "edgekit/version.h"

using edgekit::api::guarded;
using edgekit::api::read_options;
using edgekit::api::reading;
using edgekit::api::require;

namespace {

edgekit_span span_of(std::string_view text) { return {text.data(), text.size()}; }

// "auto" is the last there is, which Relay weighs against the processor.
const edgekit::BackendKind& backend_kind(std::string_view name) {
    static constexpr const edgekit::BackendKind* kKinds[] = {
        &edgekit::kCpuBackend,
#ifdef EDGEKIT_GPU
        &edgekit::kGpuBackend,
#endif
    };
    if (name == "auto") return *kKinds[std::size(kKinds) - 1];
    std::string names = "auto";
    for (const edgekit::BackendKind* kind : kKinds) {
        if (kind->name == name) return *kind;
        names += ", " + std::string(kind->name);
    }
    throw edgekit::Error(edgekit::Status::unsupported,
                         "this build has no backend '" + std::string(name) + "'; there are: " + names);
}

// Released from here on, whatever fails.
std::unique_ptr<edgekit::Companion> companion_of(const edgekit_model_options& options) {
    if (!options.companion) return nullptr;
    return std::make_unique<edgekit::Companion>(
        read_options<edgekit_companion>(options.companion, [](edgekit_companion* table) { *table = {}; }));
}

edgekit_model* open(std::unique_ptr<edgekit::MappedFile> bytes, const edgekit_model_options& options,
                    std::unique_ptr<edgekit::Companion> companion) {
    auto handle = std::make_unique<edgekit_model>();
    const edgekit::BackendKind& kind = backend_kind(options.backend ? options.backend : "cpu");
    handle->model =
        std::make_shared<const edgekit::Model>(std::move(bytes), options, kind, std::move(companion));
    handle->tokenizer.tokenizer = handle->model->tokenizer();
    return handle.release();
}

}  // namespace

extern "C" {

const char* edgekit_status_name(edgekit_status status) {
    switch (status) {
        case EDGEKIT_OK:
            return "ok";
        case EDGEKIT_INVALID_ARGUMENT:
            return "invalid_argument";
        case EDGEKIT_INVALID_FILE:
            return "invalid_file";
        case EDGEKIT_UNSUPPORTED:
            return "unsupported";
        case EDGEKIT_OUT_OF_MEMORY:
            return "out_of_memory";
        case EDGEKIT_OVER_BUDGET:
            return "over_budget";
        case EDGEKIT_IO_ERROR:
            return "io_error";
        case EDGEKIT_TEMPLATE_ERROR:
            return "template_error";
        case EDGEKIT_CANCELLED:
            return "cancelled";
        case EDGEKIT_CONTEXT_FULL:
            return "context_full";
        case EDGEKIT_BUFFER_TOO_SMALL:
            return "buffer_too_small";
        case EDGEKIT_INTERNAL:
            return "internal";
    }
    return "unknown";
}

const char* edgekit_version(void) { return EDGEKIT_VERSION; }

uint32_t edgekit_abi_version(void) { return EDGEKIT_ABI_VERSION; }

const char* edgekit_isas(void) {
    // No string: this call has no status to say that an allocation failed.
    static const auto names = [] {
        std::array<char, 256> all{};
        const edgekit::Kernels* tables[16];
        size_t size = 0;
        for (size_t i = 0, n = edgekit::list_kernels(tables, 16); i < n; ++i) {
            const std::string_view name = tables[i]->isa;
            if (size + 1 + name.size() >= all.size()) break;
            if (i) all[size++] = ',';
            size += name.copy(all.data() + size, name.size());
        }
        return all;
    }();
    return names.data();
}

void edgekit_model_options_init(edgekit_model_options* options) {
    if (!options) return;
    *options = {};
    options->struct_size = sizeof *options;
}

edgekit_status edgekit_model_open(const char* path, const edgekit_model_options* options, edgekit_model** out,
                                  edgekit_error* error) {
    return guarded(error, [&] {
        const auto chosen = read_options(options, edgekit_model_options_init);
        auto companion = companion_of(chosen);
        require(path && out, "path or out is NULL");
        const auto access = chosen.in_memory ? edgekit::FileAccess::in_memory : edgekit::FileAccess::mapped;
        *out = reading(path, [&] {
            return open(std::make_unique<edgekit::MappedFile>(path, access), chosen, std::move(companion));
        });
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_model_open_memory(const void* data, size_t size, void (*release)(void*),
                                         void* release_context, const edgekit_model_options* options,
                                         edgekit_model** out, edgekit_error* error) {
    return guarded(error, [&] {
        auto bytes = std::make_unique<edgekit::MappedFile>(
            std::span(static_cast<const std::byte*>(data), size), release, release_context);
        const auto chosen = read_options(options, edgekit_model_options_init);
        auto companion = companion_of(chosen);
        require(data && out, "data or out is NULL");
        *out = open(std::move(bytes), chosen, std::move(companion));
        return EDGEKIT_OK;
    });
}

void edgekit_model_free(edgekit_model* model) { delete model; }

edgekit_status edgekit_model_get_info(const edgekit_model* model, edgekit_model_info* info,
                                      edgekit_error* error) {
    return guarded(error, [&] {
        require(model, "the model is NULL");
        const edgekit::Model& m = *model->model;
        edgekit_model_info result{};
        result.vocab_size = static_cast<int32_t>(m.spec().vocab_size);
        result.n_layers = static_cast<int32_t>(m.spec().layers.size());
        result.d_model = static_cast<int32_t>(m.spec().d_model);
        result.context = static_cast<int32_t>(m.spec().context);
        result.has_tokenizer = m.tokenizer() != nullptr;
        result.has_chat_template = m.chat_template() != nullptr;
        result.n_threads = m.backend().threads();
        result.file_bytes = m.file_bytes();
        result.weight_bytes = m.weights().bytes;
        result.n_parameters = m.weights().n_parameters;
        result.isa = span_of(m.backend().kernels().isa);
        result.model_type = span_of(m.spec().model_type);
        result.scheme = span_of(m.scheme());
        result.metadata = span_of(m.metadata_json());
        result.relayed = span_of(m.relay().reason(m.backend()));
        result.backend = span_of(m.relay().kind().name);
        edgekit::api::write_result(result, info);
        return EDGEKIT_OK;
    });
}

const edgekit_tokenizer* edgekit_model_tokenizer(const edgekit_model* model) {
    return model && model->tokenizer.tokenizer ? &model->tokenizer : nullptr;
}

edgekit_status edgekit_model_render_chat(const edgekit_model* model, const char* context, size_t context_size,
                                         char* text, size_t capacity, size_t* size, edgekit_error* error) {
    return guarded(error, [&] {
        require(model && context, "the model or the context is NULL");
        const std::string result = model->model->render_chat(edgekit::parse_chat({context, context_size}));
        return edgekit::api::copy_out(std::span<const char>(result), text, capacity, size, error);
    });
}

edgekit_status edgekit_model_encode_chat(const edgekit_model* model, const char* context, size_t context_size,
                                         int32_t* ids, size_t capacity, size_t* count, edgekit_error* error) {
    return guarded(error, [&] {
        require(model && context, "the model or the context is NULL");
        const auto chat = model->model->encode_chat(edgekit::parse_chat({context, context_size}));
        return edgekit::api::copy_out(std::span<const int32_t>(chat.ids), ids, capacity, count, error);
    });
}

}  // extern "C"
