/* edgekit.h: the C interface of the edgekit engine. Every binding (Python, Swift, Kotlin/Java, TypeScript)
 * stands on it.
 *
 * Rules
 *  - Every call that can fail returns an edgekit_status; when `error` is not NULL it also receives the
 *    message.
 *  - Option structs begin with `size_t struct_size`; fill them with the matching *_init function, then change
 *    members. A library meets a larger struct than it knows with EDGEKIT_INVALID_ARGUMENT.
 *  - Text is UTF-8, passed as pointer and length, never cut inside a code point. Returned spans are not
 *    NUL-terminated and say how long they live.
 *  - Functions that fill a caller's buffer set `*size` to the length needed and return
 *    EDGEKIT_BUFFER_TOO_SMALL when `capacity` is less; call again with a larger buffer. A NULL buffer with
 *    capacity 0 asks for the length.
 *  - A model may be used by many threads at once; a session by one thread at a time, except
 *    edgekit_session_cancel.
 *  - No exception, abort or global state crosses this boundary. All handles may be freed in any order;
 *    freeing NULL is allowed.
 */
#ifndef EDGEKIT_H
#define EDGEKIT_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(EDGEKIT_SHARED)
#define EDGEKIT_API __declspec(dllexport)
#elif defined(__GNUC__)
#define EDGEKIT_API __attribute__((visibility("default")))
#else
#define EDGEKIT_API
#endif
/* A call whose status must be looked at. */
#if defined(__GNUC__)
#define EDGEKIT_CHECKED EDGEKIT_API __attribute__((warn_unused_result))
#else
#define EDGEKIT_CHECKED EDGEKIT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define EDGEKIT_ABI_VERSION 2

/* ---- errors -------------------------------------------------------------------------------------------- */

typedef enum edgekit_status {
    EDGEKIT_OK = 0,
    EDGEKIT_INVALID_ARGUMENT = 1, /* a value the caller passed is out of range or inconsistent */
    EDGEKIT_INVALID_FILE = 2,     /* bytes that are not what they should be: truncated, corrupt, hostile */
    EDGEKIT_UNSUPPORTED = 3,      /* a version, layout or feature this build does not have */
    EDGEKIT_OUT_OF_MEMORY = 4,    /* the system refused an allocation */
    EDGEKIT_OVER_BUDGET = 5, /* the memory budget is too small; the error's needed_bytes says what would do */
    EDGEKIT_IO_ERROR = 6,
    EDGEKIT_TEMPLATE_ERROR = 7, /* the chat template raised an error about the messages */
    EDGEKIT_CANCELLED = 8,
    EDGEKIT_CONTEXT_FULL = 9, /* the ring is full and on_full is EDGEKIT_ON_FULL_ERROR */
    EDGEKIT_BUFFER_TOO_SMALL = 10,
    EDGEKIT_INTERNAL = 11
} edgekit_status;

typedef struct edgekit_error {
    edgekit_status status;
    uint64_t needed_bytes; /* with EDGEKIT_OVER_BUDGET: the smallest budget that would do; else 0 */
    char message[1024];    /* NUL-terminated UTF-8: what is wrong, the value seen, what to do */
} edgekit_error;

/* "invalid_file" and so on: the spelling every binding uses. Static. */
EDGEKIT_API const char* edgekit_status_name(edgekit_status status);
EDGEKIT_API const char* edgekit_version(void);  /* "0.1.0"; static */
EDGEKIT_API uint32_t edgekit_abi_version(void); /* EDGEKIT_ABI_VERSION of the library */
/* Instruction sets this build has and this processor runs, best first, comma-separated
 * ("avx512vnni,avx2,scalar"). Static. */
EDGEKIT_API const char* edgekit_isas(void);

typedef struct edgekit_span {
    const char* data;
    size_t size;
} edgekit_span;

/* ---- tokenizer ----------------------------------------------------------------------------------------- */

typedef struct edgekit_tokenizer edgekit_tokenizer;

enum {
    EDGEKIT_ADD_SPECIAL = 1,  /* encode: add what the tokenizer's post-processor adds (BOS …) */
    EDGEKIT_PARSE_SPECIAL = 2 /* encode: recognise special tokens written in the text */
};

typedef struct edgekit_tokenizer_info {
    size_t struct_size;
    int32_t vocab_size;
    int32_t bos_id; /* -1: none */
    int32_t eos_id; /* -1: none; the first of the model's end-of-sequence ids */
    int32_t pad_id; /* -1: none */
} edgekit_tokenizer_info;

/* Opens a compiled tokenizer (the `tokenizer` tensor of a package) in place: the bytes are not copied and
 * must outlive it. */
EDGEKIT_CHECKED edgekit_status edgekit_tokenizer_open(const void* data, size_t size, edgekit_tokenizer** out,
                                                      edgekit_error* error);
EDGEKIT_API void edgekit_tokenizer_free(edgekit_tokenizer* tokenizer);
EDGEKIT_CHECKED edgekit_status edgekit_tokenizer_get_info(const edgekit_tokenizer* tokenizer,
                                                          edgekit_tokenizer_info* info, edgekit_error* error);
/* `flags`: EDGEKIT_ADD_SPECIAL | EDGEKIT_PARSE_SPECIAL. */
EDGEKIT_CHECKED edgekit_status edgekit_tokenizer_encode(const edgekit_tokenizer* tokenizer, const char* text,
                                                        size_t text_size, uint32_t flags, int32_t* ids,
                                                        size_t capacity, size_t* count, edgekit_error* error);
EDGEKIT_CHECKED edgekit_status edgekit_tokenizer_decode(const edgekit_tokenizer* tokenizer,
                                                        const int32_t* ids, size_t count, int skip_special,
                                                        char* text, size_t capacity, size_t* size,
                                                        edgekit_error* error);
/* The raw bytes of one token (may be a part of a code point); valid as long as the tokenizer. */
EDGEKIT_CHECKED edgekit_status edgekit_tokenizer_token_bytes(const edgekit_tokenizer* tokenizer, int32_t id,
                                                             edgekit_span* out, edgekit_error* error);
/* The id of a token's exact text, or -1. */
EDGEKIT_API int32_t edgekit_tokenizer_token_to_id(const edgekit_tokenizer* tokenizer, const char* text,
                                                  size_t text_size);

/* ---- chat template ------------------------------------------------------------------------------------- */

typedef struct edgekit_template edgekit_template;

/* Opens a compiled chat template (the `chat_template` tensor of a package); the bytes must outlive it. */
EDGEKIT_CHECKED edgekit_status edgekit_template_open(const void* data, size_t size, edgekit_template** out,
                                                     edgekit_error* error);
EDGEKIT_API void edgekit_template_free(edgekit_template* tmpl);
/* `context`: a JSON object with what the template reads ("messages", "tools", "add_generation_prompt",
 * "bos_token", …). */
EDGEKIT_CHECKED edgekit_status edgekit_template_render(const edgekit_template* tmpl, const char* context,
                                                       size_t context_size, char* text, size_t capacity,
                                                       size_t* size, edgekit_error* error);
/* The same as token ids: only the template's own text becomes special tokens, what `context` says never does.
 * `package`: a JSON object with the variables that are the package's own ("bos_token", …), or NULL. */
EDGEKIT_CHECKED edgekit_status edgekit_template_encode(const edgekit_template* tmpl,
                                                       const edgekit_tokenizer* tokenizer,
                                                       const char* context, size_t context_size,
                                                       const char* package, size_t package_size, int32_t* ids,
                                                       size_t capacity, size_t* count, edgekit_error* error);

/* ---- companion ----------------------------------------------------------------------------------------- */

typedef enum edgekit_companion_state {
    EDGEKIT_COMPANION_LOADING = 0,
    EDGEKIT_COMPANION_READY = 1,
    EDGEKIT_COMPANION_RESTING = 2, /* for now: the app is in the background, the device is hot */
    EDGEKIT_COMPANION_FAILED = 3
} edgekit_companion_state;

/* Called now and then by the thread that computes; not 0: cancel. */
typedef int (*edgekit_poll_fn)(void* context);

/* Another program of the same model that the app brings along, such as a Core ML package: slow to load, fast
 * from then on. The processor computes at once; when the companion is ready, both compute a token, and if
 * their logits agree the text moves to it. When it rests or fails the text moves back and goes on from there;
 * an EDGEKIT_EVENT_MOVED tells of both. Calls come from the threads that use the model's sessions, for
 * different texts at the same time; none may wait for loading. */
typedef struct edgekit_companion {
    size_t struct_size;
    const char* name; /* "coreml": what events call it; copied */
    void* context;
    /* What it was written for. A text that grows longer than its cache, or the session's, stays with it where
     * these are the session's own, as they are unless the session's options say otherwise. */
    uint32_t vocab_size;
    uint32_t window;
    uint32_t sinks;
    /* Of this moment; `why`: its message, for what is neither loading nor ready. */
    edgekit_companion_state (*state)(void* context, edgekit_error* why);
    /* An empty text. */
    edgekit_status (*open)(void* context, void** text, edgekit_error* error);
    void (*close)(void* context, void* text);
    /* Appends `count` tokens after the text's first `position`, and forgets what it held beyond those: that
     * is asked as long as it never held more than window + sinks. `logits`, unless NULL: vocab_size, of the
     * last token. EDGEKIT_CANCELLED after poll(poll_context) gave other than 0. */
    edgekit_status (*append)(void* context, void* text, uint64_t position, const int32_t* ids, size_t count,
                             float* logits, edgekit_poll_fn poll, void* poll_context, edgekit_error* error);
    void (*release)(void* context); /* when the model is gone, or could not be opened; NULL: nothing */
} edgekit_companion;

/* ---- model --------------------------------------------------------------------------------------------- */

typedef struct edgekit_model edgekit_model;

/* Runs task(arg, 0) … task(arg, count - 1), each on its own thread at the same time, and returns when all are
 * done. */
typedef void (*edgekit_parallel_fn)(void* context, void (*task)(void* arg, size_t index), void* arg,
                                    size_t count);

typedef struct edgekit_model_options {
    size_t struct_size;
    uint32_t n_threads;           /* 0: chosen by the engine */
    const char* isa;              /* NULL: EDGEKIT_ISA in the environment, else the best; see edgekit_isas */
    int verify_hashes;            /* not 0: read the whole file and check its SHA-256 sums before use */
    edgekit_parallel_fn parallel; /* NULL: a pool of the engine's own, shared by the model's sessions */
    void* parallel_context;
    int in_memory; /* not 0: the file is read into memory instead of mapped, so that it may be written to or
                      cut while the model is used. A mapped file must stay as it is (renaming another over it,
                      or removing it, does no harm): a change is EDGEKIT_IO_ERROR at the next step, a cut in
                      the middle of a step ends the process */
    const char* backend;        /* what computes: NULL or "cpu"; "gpu" where the build has it; "auto": the GPU
                                   where it computes what the processor does, and faster, which is tried when
                                   the model is opened */
    const char* webgpu_library; /* wgpu-native's library, for "gpu"; NULL: where the system finds it */
    const edgekit_companion*
        companion; /* NULL: none; copied. Its release is called also when opening fails */
} edgekit_model_options;

typedef struct edgekit_model_info {
    size_t struct_size;
    int32_t vocab_size;
    int32_t n_layers;
    int32_t d_model;
    int32_t context; /* positions the model was trained for */
    int32_t has_tokenizer;
    int32_t has_chat_template;
    uint32_t n_threads;
    uint64_t file_bytes;
    uint64_t weight_bytes; /* of the tensors the decoder reads */
    uint64_t n_parameters;
    edgekit_span isa; /* in use; these spans live as long as the model */
    edgekit_span model_type;
    edgekit_span scheme;
    edgekit_span metadata; /* the package's whole metadata as JSON */
    edgekit_span relayed;  /* why the processor computes, and not the backend that was asked for; empty: that
                              one does. Of the moment */
    edgekit_span backend;  /* what computes: "cpu" or "gpu". Of the moment */
} edgekit_model_info;

EDGEKIT_API void edgekit_model_options_init(edgekit_model_options* options);
/* Maps the file; `options` may be NULL. `path` is UTF-8. */
EDGEKIT_CHECKED edgekit_status edgekit_model_open(const char* path, const edgekit_model_options* options,
                                                  edgekit_model** out, edgekit_error* error);
/* Uses a package that is in memory already, 64-byte aligned; `release(release_context)` is called when the
 * model no longer needs it (also when opening fails), unless NULL. */
EDGEKIT_CHECKED edgekit_status edgekit_model_open_memory(const void* data, size_t size,
                                                         void (*release)(void*), void* release_context,
                                                         const edgekit_model_options* options,
                                                         edgekit_model** out, edgekit_error* error);
EDGEKIT_API void edgekit_model_free(edgekit_model* model);
EDGEKIT_CHECKED edgekit_status edgekit_model_get_info(const edgekit_model* model, edgekit_model_info* info,
                                                      edgekit_error* error);
/* Borrowed; NULL when the package has no tokenizer. Lives as long as the model. */
EDGEKIT_API const edgekit_tokenizer* edgekit_model_tokenizer(const edgekit_model* model);
/* Renders the package's chat template. `context` as in edgekit_template_render, or a bare JSON array of
 * messages; special tokens are filled in from the package, and add_generation_prompt is true unless the
 * context says otherwise. */
EDGEKIT_CHECKED edgekit_status edgekit_model_render_chat(const edgekit_model* model, const char* context,
                                                         size_t context_size, char* text, size_t capacity,
                                                         size_t* size, edgekit_error* error);
/* The conversation as token ids, rendered by the package's template and encoded part by part: only the
 * template's own text becomes special tokens, what the messages say never does. `context` as in
 * edgekit_model_render_chat. */
EDGEKIT_CHECKED edgekit_status edgekit_model_encode_chat(const edgekit_model* model, const char* context,
                                                         size_t context_size, int32_t* ids, size_t capacity,
                                                         size_t* count, edgekit_error* error);

/* ---- session ------------------------------------------------------------------------------------------- */

typedef struct edgekit_session edgekit_session;

typedef enum edgekit_kv_type {
    EDGEKIT_KV_AUTO = 0, /* f16, or what fits the memory budget */
    EDGEKIT_KV_F32 = 1,
    EDGEKIT_KV_F16 = 2,
    EDGEKIT_KV_INT8 = 3,
    EDGEKIT_KV_INT4 = 4
} edgekit_kv_type;

typedef enum edgekit_on_full {
    EDGEKIT_ON_FULL_EVICT = 0, /* the oldest tokens after the sinks leave; an `evicted` event tells */
    EDGEKIT_ON_FULL_STOP = 1,  /* generation ends with EDGEKIT_FINISH_CONTEXT_FULL */
    EDGEKIT_ON_FULL_ERROR = 2  /* EDGEKIT_CONTEXT_FULL */
} edgekit_on_full;

/* The first 4 positions; of a conversation (edgekit_generate_options.messages) its system prompt too, up to a
 * quarter of the cache: chosen while nothing was evicted; edgekit_session_get_plan tells. */
#define EDGEKIT_SINKS_AUTO UINT32_MAX

typedef struct edgekit_session_options {
    size_t struct_size;
    uint32_t window; /* recent positions kept; 0: a companion's, else min(model's context, 4096) less the
                        sinks; or what fits the budget */
    uint32_t sinks;  /* first positions kept for ever; default EDGEKIT_SINKS_AUTO: a companion's */
    edgekit_kv_type kv_type;
    edgekit_on_full on_full;
    uint64_t memory_budget_bytes; /* 0: none. For all that is allocated: the plan's total_bytes */
    uint32_t chunk;               /* tokens per prefill step; 0: chosen by the engine */
    edgekit_poll_fn poll;         /* between layers; NULL: none */
    void* poll_context;
} edgekit_session_options;

/* What a model and a session of it allocate, to the byte; and what is mapped. Each further session takes
 * cache_bytes + activation_bytes. */
typedef struct edgekit_memory_plan {
    size_t struct_size;
    uint64_t weight_bytes;     /* mapped from the file: shared, clean, reclaimable */
    uint64_t tokenizer_bytes;  /* in the file: the tokenizer and the chat template */
    uint64_t cache_bytes;      /* allocated: keys and values */
    uint64_t activation_bytes; /* allocated: everything else that is a session's own */
    uint64_t model_bytes;      /* allocated once per model: a mapped file's tokenizer and chat template, or
                                  the whole file with edgekit_model_options.in_memory; and what its sessions
                                  compute in by turns, as much as the one that needs most */
    uint64_t total_bytes;      /* allocated: cache + activation + model */
    uint32_t window;
    uint32_t sinks;
    uint32_t chunk;
    edgekit_kv_type kv_type;
} edgekit_memory_plan;

EDGEKIT_API void edgekit_session_options_init(edgekit_session_options* options);
/* The plan edgekit_session_create would follow; EDGEKIT_OVER_BUDGET when it cannot. */
EDGEKIT_CHECKED edgekit_status edgekit_plan(const edgekit_model* model,
                                            const edgekit_session_options* options, edgekit_memory_plan* plan,
                                            edgekit_error* error);
/* As edgekit_plan, from the file's header alone, before anything is loaded. */
EDGEKIT_CHECKED edgekit_status edgekit_can_load(const char* path, const edgekit_session_options* options,
                                                edgekit_memory_plan* plan, edgekit_error* error);
/* The same for a file that lies elsewhere, such as a download to come: `header` is its beginning, on 64
 * bytes, which are 8 bytes that hold the header's length n (little-endian) and n more; `file_bytes` is the
 * whole file's size. */
EDGEKIT_CHECKED edgekit_status edgekit_can_load_header(const void* header, size_t header_size,
                                                       uint64_t file_bytes,
                                                       const edgekit_session_options* options,
                                                       edgekit_memory_plan* plan, edgekit_error* error);

EDGEKIT_CHECKED edgekit_status edgekit_session_create(edgekit_model* model,
                                                      const edgekit_session_options* options,
                                                      edgekit_session** out, edgekit_error* error);
EDGEKIT_API void edgekit_session_free(edgekit_session* session);
/* Tokens processed since the start (evicted ones included). */
EDGEKIT_API uint64_t edgekit_session_position(const edgekit_session* session);
EDGEKIT_CHECKED edgekit_status edgekit_session_get_plan(const edgekit_session* session,
                                                        edgekit_memory_plan* plan, edgekit_error* error);

/* Appends `count` tokens to the cache. `logits`, unless NULL, receives float32 rows of vocab_size: one per
 * token when `all_logits` is not 0, else the last token's alone. */
EDGEKIT_CHECKED edgekit_status edgekit_session_forward(edgekit_session* session, const int32_t* ids,
                                                       size_t count, int all_logits, float* logits,
                                                       edgekit_error* error);

typedef enum edgekit_prompt_mode {
    /* The prompt is the whole text so far: what the cache shares with its beginning is not computed again. */
    EDGEKIT_PROMPT_FROM_START = 0,
    /* The prompt follows what is in the cache. */
    EDGEKIT_PROMPT_APPEND = 1
} edgekit_prompt_mode;

/* A fresh seed for every generation; EVENT_DONE tells which. */
#define EDGEKIT_SEED_RANDOM UINT64_MAX

typedef struct edgekit_generate_options {
    size_t struct_size;
    const char* prompt; /* UTF-8 text; a prompt is given as text, as ids or as messages. Text that spells BOS
                           itself gets no second one */
    size_t prompt_size;
    const int32_t* prompt_ids;
    size_t prompt_ids_count;
    uint32_t prompt_flags; /* EDGEKIT_ADD_SPECIAL (not where the prompt follows other text) |
                              EDGEKIT_PARSE_SPECIAL; default both */
    edgekit_prompt_mode prompt_mode;
    uint32_t max_tokens; /* 0: as many as the session's window and sinks hold; UINT32_MAX: until the model
                            ends or the session is cancelled */
    int ignore_eos;
    uint64_t seed; /* default EDGEKIT_SEED_RANDOM */
    /* Sampling, in the order it is applied (Transformers' order): bias, penalties, temperature, top-k, top-p,
     * min-p, typical. Defaults are what the package's makers advise, else these: */
    float temperature;        /* 0: greedy */
    uint32_t top_k;           /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float typical_p;          /* 1: off */
    float repetition_penalty; /* 1: off; divides positive and multiplies negative logits of seen tokens */
    float presence_penalty;   /* 0: off; subtracted once from seen tokens */
    float frequency_penalty;  /* 0: off; subtracted once per occurrence */
    uint32_t penalty_window;  /* last tokens (prompt, output) that count as seen; default 64, at most 4096 */
    const int32_t* bias_ids;  /* logit bias: added to these ids' logits; -INFINITY forbids a token */
    const float* bias_values;
    size_t bias_count;
    const edgekit_span* stops; /* stop strings; the text ends before the first that appears. One that is a
                                  special token's text stops at that token */
    size_t stops_count;
    int32_t speculation; /* prompt-lookup draft length: -1 chosen by the engine, 0 off, at most 7 */
    int prompt_events;   /* not 0: edgekit_session_next returns after each chunk of the prompt, for whoever
                            must look after something else meanwhile */
    const int32_t* stop_ids; /* ids that end the text as the model's own ends do, with EDGEKIT_FINISH_STOP */
    size_t stop_ids_count;
    const char* messages; /* a conversation, as edgekit_model_render_chat takes it, encoded as
                             edgekit_model_encode_chat does. It is the whole conversation so far, prompt_mode
                             EDGEKIT_PROMPT_FROM_START: what the cache holds of it is not computed again, also
                             after its beginning was evicted */
    size_t messages_size;
} edgekit_generate_options;

typedef enum edgekit_event_kind {
    EDGEKIT_EVENT_TEXT = 0,
    EDGEKIT_EVENT_EVICTED = 1,
    EDGEKIT_EVENT_DONE = 2,
    EDGEKIT_EVENT_PROMPT = 3, /* with prompt_events: cached_tokens of the prompt's prompt_tokens are in */
    EDGEKIT_EVENT_MOVED = 4   /* with a companion: computed_by goes on from here, relayed says why */
} edgekit_event_kind;

typedef enum edgekit_finish {
    EDGEKIT_FINISH_EOS = 0,
    EDGEKIT_FINISH_LENGTH = 1,
    EDGEKIT_FINISH_STOP = 2,
    EDGEKIT_FINISH_CANCELLED = 3,
    EDGEKIT_FINISH_CONTEXT_FULL = 4
} edgekit_finish;

typedef struct edgekit_event {
    size_t struct_size;
    edgekit_event_kind kind;
    edgekit_span text;     /* EVENT_TEXT: whole code points, possibly empty; until the session's next call */
    const int32_t* tokens; /* EVENT_TEXT: the tokens sampled since the last event; same lifetime */
    size_t token_count;
    uint64_t evicted_first; /* EVENT_EVICTED: positions [first, first + count) can no longer be attended to */
    uint64_t evicted_count;
    edgekit_finish finish;  /* EVENT_DONE: why, and the statistics below */
    uint32_t prompt_tokens; /* of this prompt */
    uint32_t cached_tokens; /* of those, found in the cache and not computed */
    uint32_t generated_tokens;
    uint32_t drafted_tokens;  /* speculation: tokens proposed, */
    uint32_t accepted_tokens; /*   and of those accepted */
    double prefill_ms;
    double first_token_ms; /* from edgekit_session_generate to the first token */
    double decode_ms;
    uint64_t seed;       /* EVENT_DONE: the seed that was used */
    uint32_t taken_back; /* EVENT_DONE with EDGEKIT_FINISH_STOP: tokens of the stop that left the cache again,
                            so that it holds no more than the text says */
    edgekit_span relayed; /* EVENT_DONE, EVENT_MOVED: why the processor went on with a text of another backend
                             or of the companion; empty: it did not. Until the session's next call */
    edgekit_span computed_by; /* EVENT_DONE, EVENT_MOVED: the companion's name, or "cpu", "gpu" */
} edgekit_event;

/* Defaults; with `model` not NULL, the sampling that the package's makers advise. */
EDGEKIT_API void edgekit_generate_options_init(edgekit_generate_options* options, const edgekit_model* model);
/* Begins a generation; everything `options` points to is copied. A running one is ended. */
EDGEKIT_CHECKED edgekit_status edgekit_session_generate(edgekit_session* session,
                                                        const edgekit_generate_options* options,
                                                        edgekit_error* error);
/* Computes until there is an event. After EVENT_DONE: EDGEKIT_INVALID_ARGUMENT until the next
 * edgekit_session_generate. `event->struct_size` must be set by the caller. */
EDGEKIT_CHECKED edgekit_status edgekit_session_next(edgekit_session* session, edgekit_event* event,
                                                    edgekit_error* error);
/* From any thread: the running generate/next/forward ends soon, as EDGEKIT_FINISH_CANCELLED or
 * EDGEKIT_CANCELLED. The session stays usable. */
EDGEKIT_API void edgekit_session_cancel(edgekit_session* session);

/* Forgets everything; allocates nothing. */
EDGEKIT_CHECKED edgekit_status edgekit_session_reset(edgekit_session* session, edgekit_error* error);
/* Takes the last `count` tokens back, as long as the ring still holds the positions that come into view
 * again. */
EDGEKIT_CHECKED edgekit_status edgekit_session_rewind(edgekit_session* session, uint64_t count,
                                                      edgekit_error* error);
/* A second session with the same contents. */
EDGEKIT_CHECKED edgekit_status edgekit_session_fork(const edgekit_session* session, edgekit_session** out,
                                                    edgekit_error* error);

/* The session's state as bytes, portable between platforms and instruction sets, bound to the model's weights
 * by hash. */
EDGEKIT_API uint64_t edgekit_session_state_size(const edgekit_session* session);
EDGEKIT_CHECKED edgekit_status edgekit_session_state_write(const edgekit_session* session, void* data,
                                                           size_t capacity, size_t* size,
                                                           edgekit_error* error);
EDGEKIT_CHECKED edgekit_status edgekit_session_state_read(edgekit_session* session, const void* data,
                                                          size_t size, edgekit_error* error);
/* The same to and from a file; an interrupted save leaves the old file as it was. */
EDGEKIT_CHECKED edgekit_status edgekit_session_save(const edgekit_session* session, const char* path,
                                                    edgekit_error* error);
EDGEKIT_CHECKED edgekit_status edgekit_session_restore(edgekit_session* session, const char* path,
                                                       edgekit_error* error);

#ifdef __cplusplus
}
#endif

#endif /* EDGEKIT_H */
