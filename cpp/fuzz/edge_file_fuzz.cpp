// A hostile package: opened, described, and, where it is sound, decoded for a few tokens.

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "edgekit/edgekit.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr uint64_t kBudget = uint64_t{16} << 20;
    void* memory = ::operator new(size ? size : 1, std::align_val_t{64});
    std::memcpy(memory, data, size);
    edgekit_model_options options;
    edgekit_model_options_init(&options);
    options.n_threads = 1;
    edgekit_error error;
    edgekit_model* model = nullptr;
    const auto release = [](void* bytes) { ::operator delete(bytes, std::align_val_t{64}); };
    if (edgekit_model_open_memory(memory, size, release, memory, &options, &model, &error) == EDGEKIT_OK) {
        edgekit_session_options session_options;
        edgekit_session_options_init(&session_options);
        session_options.window = 16;
        session_options.memory_budget_bytes = kBudget;
        edgekit_session* session = nullptr;
        if (edgekit_session_create(model, &session_options, &session, &error) == EDGEKIT_OK) {
            edgekit_generate_options generate;
            edgekit_generate_options_init(&generate, nullptr);
            const int32_t prompt[] = {0, 1, 0};
            generate.prompt_ids = prompt;
            generate.prompt_ids_count = 3;
            generate.max_tokens = 4;
            edgekit_event event;
            event.struct_size = sizeof event;
            if (edgekit_session_generate(session, &generate, &error) == EDGEKIT_OK) {
                while (edgekit_session_next(session, &event, &error) == EDGEKIT_OK &&
                       event.kind != EDGEKIT_EVENT_DONE) {
                }
            }
            edgekit_session_free(session);
        }
        edgekit_model_free(model);
    }
    return 0;
}
