/* Drives a Core ML package or a Core AI asset that edgekit wrote (docs/coreml.md) as the companion of a
 * model: which of its functions takes a step, and what they are given. What runs functions is a runner: Core
 * ML's is in coreml_runner.mm, Core AI's in EdgeKit/CoreAIRunner.swift. */
#ifndef EDGEKIT_PACKAGE_H
#define EDGEKIT_PACKAGE_H

#include <edgekit/edgekit.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A ring of the cache, see docs/coreml.md. */
typedef struct edgekit_package_ring {
    uint32_t sinks, window, turn, slots;
} edgekit_package_ring;

typedef struct edgekit_package_rope {
    const double* inv_freq;
    size_t count;
    double factor;
} edgekit_package_rope;

/* companion.json, or the member "edgekit" of a package's metadata. */
typedef struct edgekit_package_facts {
    const char* name; /* "coreml", "coreai" */
    uint32_t vocab_size, d_model, window, sinks, chunk, width, conv_kernel;
    int columns; /* a token is a column of every input */
    const uint32_t* contexts;
    size_t contexts_count;
    const edgekit_package_ring* rings;
    size_t rings_count;
    const edgekit_package_rope* ropes;
    size_t ropes_count;
    const char* embeddings; /* the path of embeddings.bin */
    /* Whether the app may compute on this unit now: ready, or resting and why; NULL: always. */
    edgekit_companion_state (*condition)(edgekit_error* why);
} edgekit_package_facts;

/* Of a function, row-major; a runner rounds it to the type that its program wants. */
typedef struct edgekit_package_input {
    const char* name;
    size_t rank;
    int64_t shape[4];
    const float* values; /* NULL: */
    const int32_t* integers;
} edgekit_package_input;

/* Members as those of edgekit_companion, unless it says otherwise. */
typedef struct edgekit_package_runner {
    void* context;
    edgekit_companion_state (*state)(void* context, edgekit_error* why);
    /* Whether a function is loaded; NULL: all are. Those of the longest context are once it is ready, and
     * take the place of others. */
    int (*has)(void* context, const char* function);
    /* States, all zero. */
    edgekit_status (*open)(void* context, void** text, edgekit_error* error);
    void (*close)(void* context, void* text);
    /* `inputs`: every one that a function may have. `logits`: vocab_size; NULL for functions that give none
     * that matter. */
    edgekit_status (*run)(void* context, void* text, const char* function,
                          const edgekit_package_input* inputs, size_t inputs_count, float* logits,
                          edgekit_error* error);
    void (*release)(void* context);
} edgekit_package_runner;

/* Everything is copied; the runner is released with the companion, and when this fails. */
EDGEKIT_CHECKED edgekit_status edgekit_package_companion(const edgekit_package_facts* facts,
                                                         const edgekit_package_runner* runner,
                                                         edgekit_companion* out, edgekit_error* error);

/* Core ML's runner, on Apple's systems (iOS 18, macOS 15); EDGEKIT_UNSUPPORTED elsewhere. `functions` of all
 * `packages` (`.mlmodelc`; a `.mlpackage` is compiled first) are loaded in this order, on a thread of its
 * own; it is ready after the first two. With `neural_engine` they are meant for that unit: where less than 90
 * % of a step would run there, the GPU computes, and the message of `state` says so. */
EDGEKIT_CHECKED edgekit_status edgekit_coreml_runner(const char* const* packages, size_t packages_count,
                                                     const char* const* functions, size_t functions_count,
                                                     uint32_t vocab_size, int neural_engine,
                                                     edgekit_package_runner* out, edgekit_error* error);

#ifdef __cplusplus
}
#endif

#endif /* EDGEKIT_PACKAGE_H */
