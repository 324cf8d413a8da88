// edgekit.h: tokenizer and chat template.

#include <vector>

#include "api/boundary.h"
#include "api/handles.h"

using edgekit::api::copy_out;
using edgekit::api::guarded;
using edgekit::api::require;
using edgekit::api::require_items;

extern "C" {

edgekit_status edgekit_tokenizer_open(const void* data, size_t size, edgekit_tokenizer** out,
                                      edgekit_error* error) {
    return guarded(error, [&] {
        require(data && out, "data or out is NULL");
        auto handle = std::make_unique<edgekit_tokenizer>();
        handle->owned = std::make_unique<edgekit::Tokenizer>(
            edgekit::Tokenizer::open({static_cast<const std::byte*>(data), size}));
        handle->tokenizer = handle->owned.get();
        *out = handle.release();
        return EDGEKIT_OK;
    });
}

void edgekit_tokenizer_free(edgekit_tokenizer* tokenizer) { delete tokenizer; }

edgekit_status edgekit_tokenizer_get_info(const edgekit_tokenizer* tokenizer, edgekit_tokenizer_info* info,
                                          edgekit_error* error) {
    return guarded(error, [&] {
        require(tokenizer, "the tokenizer is NULL");
        const edgekit::Tokenizer& t = *tokenizer->tokenizer;
        edgekit::api::write_result({sizeof(edgekit_tokenizer_info), static_cast<int32_t>(t.vocab_size()),
                                    t.bos_id(), t.eos_id(), t.pad_id()},
                                   info);
        return EDGEKIT_OK;
    });
}

edgekit_status edgekit_tokenizer_encode(const edgekit_tokenizer* tokenizer, const char* text,
                                        size_t text_size, uint32_t flags, int32_t* ids, size_t capacity,
                                        size_t* count, edgekit_error* error) {
    return guarded(error, [&] {
        require(tokenizer && (text || !text_size), "the tokenizer or the text is NULL");
        require((flags & ~uint32_t{EDGEKIT_ADD_SPECIAL | EDGEKIT_PARSE_SPECIAL}) == 0,
                "flags has unknown bits");
        std::vector<int32_t> result;
        tokenizer->tokenizer->encode({text ? text : "", text_size}, flags & EDGEKIT_ADD_SPECIAL,
                                     flags & EDGEKIT_PARSE_SPECIAL, result);
        return copy_out(std::span<const int32_t>(result), ids, capacity, count, error);
    });
}

edgekit_status edgekit_tokenizer_decode(const edgekit_tokenizer* tokenizer, const int32_t* ids, size_t count,
                                        int skip_special, char* text, size_t capacity, size_t* size,
                                        edgekit_error* error) {
    return guarded(error, [&] {
        require(tokenizer && (ids || !count), "the tokenizer or the ids are NULL");
        const std::string result = tokenizer->tokenizer->decode({ids, count}, skip_special != 0);
        return copy_out(std::span<const char>(result), text, capacity, size, error);
    });
}

edgekit_status edgekit_tokenizer_token_bytes(const edgekit_tokenizer* tokenizer, int32_t id,
                                             edgekit_span* out, edgekit_error* error) {
    return guarded(error, [&] {
        require(tokenizer && out, "the tokenizer or out is NULL");
        const std::string_view bytes = tokenizer->tokenizer->token_bytes(id);
        *out = {bytes.data(), bytes.size()};
        return EDGEKIT_OK;
    });
}

int32_t edgekit_tokenizer_token_to_id(const edgekit_tokenizer* tokenizer, const char* text,
                                      size_t text_size) {
    return tokenizer && text ? tokenizer->tokenizer->token_to_id({text, text_size}) : -1;
}

edgekit_status edgekit_template_open(const void* data, size_t size, edgekit_template** out,
                                     edgekit_error* error) {
    return guarded(error, [&] {
        require(data && out, "data or out is NULL");
        *out = new edgekit_template{edgekit::ChatTemplate::open({static_cast<const std::byte*>(data), size})};
        return EDGEKIT_OK;
    });
}

void edgekit_template_free(edgekit_template* tmpl) { delete tmpl; }

edgekit_status edgekit_template_render(const edgekit_template* tmpl, const char* context, size_t context_size,
                                       char* text, size_t capacity, size_t* size, edgekit_error* error) {
    return guarded(error, [&] {
        require(tmpl && context, "the template or the context is NULL");
        const std::string result = tmpl->compiled.render(edgekit::parse_chat({context, context_size}));
        return copy_out(std::span<const char>(result), text, capacity, size, error);
    });
}

edgekit_status edgekit_template_encode(const edgekit_template* tmpl, const edgekit_tokenizer* tokenizer,
                                       const char* context, size_t context_size, const char* package,
                                       size_t package_size, int32_t* ids, size_t capacity, size_t* count,
                                       edgekit_error* error) {
    return guarded(error, [&] {
        require(tmpl && tokenizer && context, "the template, the tokenizer or the context is NULL");
        require_items(package, package_size, "package");
        const edgekit::json::Value own =
            package ? edgekit::parse_chat({package, package_size}) : edgekit::json::Object();
        require(own.is_object(), "package is not a JSON object");
        const auto text = tmpl->compiled.render_marked(edgekit::parse_chat({context, context_size}), own);
        std::vector<int32_t> result;
        tokenizer->tokenizer->encode(text.bytes, false, true, result, text.marks);
        return copy_out(std::span<const int32_t>(result), ids, capacity, count, error);
    });
}

}  // extern "C"
