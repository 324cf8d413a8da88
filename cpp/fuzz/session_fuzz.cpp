// A hostile saved session with a signature that fits: refused, or one that generates, is taken back, forked
// and saved like any other. Seeds: tests/golden/engine/text.session. Run from the repository's root.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "edgekit/edgekit.h"
#include "format/sha256.h"

namespace {

edgekit_error error;

void must(bool ok) {
    if (ok) return;
    std::fprintf(stderr, "%s\n", error.message);
    std::abort();
}

// As the seed was saved.
edgekit_session* create() {
    static edgekit_model* const model = [] {
        edgekit_model_options options;
        edgekit_model_options_init(&options);
        options.n_threads = 1;
        edgekit_model* opened = nullptr;
        must(edgekit_model_open("tests/golden/engine/text.edge", &options, &opened, &error) == EDGEKIT_OK);
        return opened;
    }();
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = 24;
    options.sinks = 2;
    options.kv_type = EDGEKIT_KV_INT8;
    edgekit_session* session = nullptr;
    must(edgekit_session_create(model, &options, &session, &error) == EDGEKIT_OK);
    return session;
}

std::vector<uint8_t> saved(const edgekit_session* session) {
    std::vector<uint8_t> state(edgekit_session_state_size(session));
    size_t size = 0;
    must(edgekit_session_state_write(session, state.data(), state.size(), &size, &error) == EDGEKIT_OK &&
         size == state.size());
    return state;
}

void generate(edgekit_session* session, edgekit_prompt_mode mode) {
    const int32_t prompt[] = {72, 105};
    edgekit_generate_options options;
    edgekit_generate_options_init(&options, nullptr);
    options.prompt_ids = prompt;
    options.prompt_ids_count = 2;
    options.prompt_mode = mode;
    options.max_tokens = 6;
    options.ignore_eos = 1;
    options.temperature = 1;
    options.repetition_penalty = 1.1f;
    options.penalty_window = 4096;
    options.seed = 1;
    must(edgekit_session_generate(session, &options, &error) == EDGEKIT_OK);
    edgekit_event event;
    event.struct_size = sizeof event;
    while (edgekit_session_next(session, &event, &error) == EDGEKIT_OK && event.kind != EDGEKIT_EVENT_DONE) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr size_t kSignature = 64;
    if (size < kSignature) return 0;
    std::vector<uint8_t> mutant(data, data + size);
    const std::span content = std::span(mutant).first(size - kSignature);
    const std::string signature = edgekit::sha256_hex(std::as_bytes(content));
    std::memcpy(mutant.data() + content.size(), signature.data(), kSignature);

    edgekit_session* session = create();
    const std::vector<uint8_t> before = saved(session);
    if (edgekit_session_state_read(session, mutant.data(), mutant.size(), &error) != EDGEKIT_OK) {
        must(saved(session) == before);
    } else {
        must(saved(session) == mutant);
        edgekit_session* fork = nullptr;
        must(edgekit_session_fork(session, &fork, &error) == EDGEKIT_OK && saved(fork) == mutant);
        generate(session, EDGEKIT_PROMPT_APPEND);
        edgekit_session_rewind(fork, 3, &error) == EDGEKIT_OK ? generate(fork, EDGEKIT_PROMPT_APPEND)
                                                              : generate(fork, EDGEKIT_PROMPT_FROM_START);
        edgekit_session_free(fork);
    }
    edgekit_session_free(session);
    return 0;
}
