// What JavaScript needs besides edgekit.h: where the members of its structs lie, and a way to hand over
// memory.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <type_traits>

#include "edgekit/edgekit.h"

namespace {

struct Member {
    const char* owner;
    const char* name;  // "" for the struct as a whole, whose offset is its size
    const char* type;
    uint32_t offset;
};

template <class T>
constexpr const char* type_name() {
    if constexpr (std::is_same_v<T, edgekit_span>)
        return "span";
    else if constexpr (std::is_array_v<T>)
        return "text";
    else if constexpr (std::is_floating_point_v<T>)
        return sizeof(T) == 4 ? "f32" : "f64";
    else if constexpr (std::is_enum_v<T> || std::is_pointer_v<T> || std::is_unsigned_v<T>)
        return sizeof(T) == 4 ? "u32" : "u64";
    else
        return "i32";
}

#define STRUCT(s) {#s, "", "struct", sizeof(s)}
#define MEMBER(s, m) {#s, #m, type_name<decltype(s::m)>(), offsetof(s, m)}

constexpr Member kLayout[] = {
    STRUCT(edgekit_error),
    MEMBER(edgekit_error, needed_bytes),
    MEMBER(edgekit_error, message),
    STRUCT(edgekit_tokenizer_info),
    MEMBER(edgekit_tokenizer_info, struct_size),
    MEMBER(edgekit_tokenizer_info, vocab_size),
    MEMBER(edgekit_tokenizer_info, bos_id),
    MEMBER(edgekit_tokenizer_info, eos_id),
    MEMBER(edgekit_tokenizer_info, pad_id),
    STRUCT(edgekit_model_options),
    MEMBER(edgekit_model_options, n_threads),
    MEMBER(edgekit_model_options, isa),
    MEMBER(edgekit_model_options, verify_hashes),
    MEMBER(edgekit_model_options, backend),
    STRUCT(edgekit_model_info),
    MEMBER(edgekit_model_info, struct_size),
    MEMBER(edgekit_model_info, vocab_size),
    MEMBER(edgekit_model_info, n_layers),
    MEMBER(edgekit_model_info, d_model),
    MEMBER(edgekit_model_info, context),
    MEMBER(edgekit_model_info, has_tokenizer),
    MEMBER(edgekit_model_info, has_chat_template),
    MEMBER(edgekit_model_info, n_threads),
    MEMBER(edgekit_model_info, file_bytes),
    MEMBER(edgekit_model_info, weight_bytes),
    MEMBER(edgekit_model_info, n_parameters),
    MEMBER(edgekit_model_info, isa),
    MEMBER(edgekit_model_info, model_type),
    MEMBER(edgekit_model_info, scheme),
    MEMBER(edgekit_model_info, metadata),
    MEMBER(edgekit_model_info, relayed),
    MEMBER(edgekit_model_info, backend),
    STRUCT(edgekit_session_options),
    MEMBER(edgekit_session_options, window),
    MEMBER(edgekit_session_options, sinks),
    MEMBER(edgekit_session_options, kv_type),
    MEMBER(edgekit_session_options, on_full),
    MEMBER(edgekit_session_options, memory_budget_bytes),
    MEMBER(edgekit_session_options, chunk),
    STRUCT(edgekit_memory_plan),
    MEMBER(edgekit_memory_plan, struct_size),
    MEMBER(edgekit_memory_plan, weight_bytes),
    MEMBER(edgekit_memory_plan, tokenizer_bytes),
    MEMBER(edgekit_memory_plan, cache_bytes),
    MEMBER(edgekit_memory_plan, activation_bytes),
    MEMBER(edgekit_memory_plan, model_bytes),
    MEMBER(edgekit_memory_plan, total_bytes),
    MEMBER(edgekit_memory_plan, window),
    MEMBER(edgekit_memory_plan, sinks),
    MEMBER(edgekit_memory_plan, chunk),
    MEMBER(edgekit_memory_plan, kv_type),
    STRUCT(edgekit_generate_options),
    MEMBER(edgekit_generate_options, prompt),
    MEMBER(edgekit_generate_options, prompt_size),
    MEMBER(edgekit_generate_options, prompt_ids),
    MEMBER(edgekit_generate_options, prompt_ids_count),
    MEMBER(edgekit_generate_options, prompt_flags),
    MEMBER(edgekit_generate_options, prompt_mode),
    MEMBER(edgekit_generate_options, prompt_events),
    MEMBER(edgekit_generate_options, max_tokens),
    MEMBER(edgekit_generate_options, ignore_eos),
    MEMBER(edgekit_generate_options, seed),
    MEMBER(edgekit_generate_options, temperature),
    MEMBER(edgekit_generate_options, top_k),
    MEMBER(edgekit_generate_options, top_p),
    MEMBER(edgekit_generate_options, min_p),
    MEMBER(edgekit_generate_options, typical_p),
    MEMBER(edgekit_generate_options, repetition_penalty),
    MEMBER(edgekit_generate_options, presence_penalty),
    MEMBER(edgekit_generate_options, frequency_penalty),
    MEMBER(edgekit_generate_options, penalty_window),
    MEMBER(edgekit_generate_options, bias_ids),
    MEMBER(edgekit_generate_options, bias_values),
    MEMBER(edgekit_generate_options, bias_count),
    MEMBER(edgekit_generate_options, stops),
    MEMBER(edgekit_generate_options, stops_count),
    MEMBER(edgekit_generate_options, speculation),
    MEMBER(edgekit_generate_options, stop_ids),
    MEMBER(edgekit_generate_options, stop_ids_count),
    MEMBER(edgekit_generate_options, messages),
    MEMBER(edgekit_generate_options, messages_size),
    STRUCT(edgekit_event),
    MEMBER(edgekit_event, struct_size),
    MEMBER(edgekit_event, kind),
    MEMBER(edgekit_event, text),
    MEMBER(edgekit_event, tokens),
    MEMBER(edgekit_event, token_count),
    MEMBER(edgekit_event, evicted_first),
    MEMBER(edgekit_event, evicted_count),
    MEMBER(edgekit_event, finish),
    MEMBER(edgekit_event, prompt_tokens),
    MEMBER(edgekit_event, cached_tokens),
    MEMBER(edgekit_event, generated_tokens),
    MEMBER(edgekit_event, drafted_tokens),
    MEMBER(edgekit_event, accepted_tokens),
    MEMBER(edgekit_event, prefill_ms),
    MEMBER(edgekit_event, first_token_ms),
    MEMBER(edgekit_event, decode_ms),
    MEMBER(edgekit_event, seed),
    MEMBER(edgekit_event, taken_back),
    MEMBER(edgekit_event, relayed),
};

}  // namespace

extern "C" {

// The rows of the layout, `*count` of them, each of four 32-bit words.
const Member* edgekit_web_layout(uint32_t* count) {
    *count = std::size(kLayout);
    return kLayout;
}

// edgekit_model_open_memory for bytes from aligned_alloc, which the model frees.
edgekit_status edgekit_web_open(void* data, size_t size, const edgekit_model_options* options,
                                edgekit_model** out, edgekit_error* error) {
    return edgekit_model_open_memory(data, size, std::free, data, options, out, error);
}
}
