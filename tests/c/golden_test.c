/* The golden cases through edgekit.h from C, against an installed edgekit; then 1,000 sessions begun,
 * cancelled and freed, half of them in the middle of a generation, with flat memory. */
#include "golden_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static edgekit_error error;
static int failures = 0;

static void check(int ok, const char* what, size_t number) {
    if (ok) return;
    ++failures;
    printf("FAILED: case %zu: %s (%s)\n", number, what, error.message);
}

static edgekit_model* open_model(const char* file) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s", golden_dir, file);
    edgekit_model* model = NULL;
    if (edgekit_model_open(path, NULL, &model, &error)) {
        printf("FAILED: %s: %s\n", path, error.message);
        exit(1);
    }
    return model;
}

static edgekit_session* create(edgekit_model* model, const golden_case* c) {
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = c->window;
    options.sinks = c->sinks;
    options.kv_type = c->kv;
    edgekit_session* session = NULL;
    if (edgekit_session_create(model, &options, &session, &error)) {
        printf("FAILED: create: %s\n", error.message);
        exit(1);
    }
    return session;
}

static edgekit_status begin(edgekit_model* model, edgekit_session* session, const golden_case* c) {
    edgekit_generate_options options;
    edgekit_generate_options_init(&options, model);
    options.prompt = c->prompt.data;
    options.prompt_size = c->prompt.size;
    options.prompt_ids = c->prompt_ids.data;
    options.prompt_ids_count = c->prompt_ids.count;
    options.messages = c->messages.data;
    options.messages_size = c->messages.size;
    options.stop_ids = c->stop_ids.data;
    options.stop_ids_count = c->stop_ids.count;
    c->set_options(&options);
    return edgekit_session_generate(session, &options, &error);
}

static void replay(size_t number) {
    const golden_case* c = &cases[number];
    edgekit_model* model = open_model(c->model);
    edgekit_session* session = create(model, c);
    static char text[1 << 16];
    static int32_t ids[1 << 12];
    size_t text_size = 0, ids_count = 0;
    check(begin(model, session, c) == EDGEKIT_OK, "generate", number);
    edgekit_model_free(model); /* the session goes on */
    edgekit_event event = {.struct_size = sizeof event};
    while (edgekit_session_next(session, &event, &error) == EDGEKIT_OK && event.kind != EDGEKIT_EVENT_DONE) {
        if (event.kind != EDGEKIT_EVENT_TEXT) continue;
        memcpy(text + text_size, event.text.data, event.text.size);
        text_size += event.text.size;
        memcpy(ids + ids_count, event.tokens, event.token_count * sizeof *ids);
        ids_count += event.token_count;
    }
    check(event.kind == EDGEKIT_EVENT_DONE && event.finish == c->finish, "another end", number);
    check(ids_count == c->ids.count && !memcmp(ids, c->ids.data, ids_count * sizeof *ids), "other tokens",
          number);
    check(text_size == c->text.size && !memcmp(text, c->text.data, text_size), "other text", number);
    edgekit_session_free(session);
}

static void replay_chat(size_t number) {
    const golden_chat* c = &chats[number];
    edgekit_model* model = open_model(c->model);
    char text[4096];
    size_t size = 0;
    check(edgekit_model_render_chat(model, c->messages.data, c->messages.size, text, sizeof text, &size,
                                    &error) == EDGEKIT_OK,
          "render a chat", number);
    check(size == c->text.size && !memcmp(text, c->text.data, size), "a chat renders differently", number);
    int32_t ids[4096];
    size_t count = 0;
    check(edgekit_model_encode_chat(model, c->messages.data, c->messages.size, ids, COUNT(ids), &count,
                                    &error) == EDGEKIT_OK,
          "encode a chat", number);
    check(count == c->ids.count && !memcmp(ids, c->ids.data, count * sizeof *ids), "a chat has other tokens",
          number);
    edgekit_model_free(model);
}

static void test_errors(void) {
    edgekit_model* model = NULL;
    check(edgekit_model_open("no such file", NULL, &model, &error) == EDGEKIT_IO_ERROR && !model,
          "a missing file", 0);
    check(strstr(error.message, "no such file") != NULL, "the message names the file", 0);
    model = open_model(cases[0].model);
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.memory_budget_bytes = 1000;
    edgekit_session* session = NULL;
    check(edgekit_session_create(model, &options, &session, &error) == EDGEKIT_OVER_BUDGET && !session &&
              error.needed_bytes > 1000,
          "a budget of 1,000 bytes", 0);
    edgekit_model_free(model);
}

static long resident_kib(void) {
    long kib = 0;
    FILE* file = fopen("/proc/self/status", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1) break;
    if (file) fclose(file);
    return kib;
}

static void soak(void) {
    long before = 0;
    for (size_t i = 0; i < 1000; ++i) {
        if (i == 100) before = resident_kib();
        const golden_case* c = &cases[i % COUNT(cases)];
        edgekit_model* model = open_model(c->model);
        edgekit_session* session = create(model, c);
        check(begin(model, session, c) == EDGEKIT_OK, "soak: generate", i);
        edgekit_event event = {.struct_size = sizeof event};
        for (int n = 0; n < 3; ++n)
            check(edgekit_session_next(session, &event, &error) == EDGEKIT_OK, "soak: next", i);
        if (i % 2) {
            edgekit_session_cancel(session);
            while (event.kind != EDGEKIT_EVENT_DONE && !edgekit_session_next(session, &event, &error)) {
            }
            check(event.finish == EDGEKIT_FINISH_CANCELLED, "soak: cancel", i);
        }
        edgekit_model_free(model);
        edgekit_session_free(session);
    }
    const long grown = resident_kib() - before;
    printf("1,000 sessions: %ld KiB more resident than after the first 100\n", grown);
    check(grown < 8192, "the memory grows", 1000);
}

int main(void) {
    for (size_t i = 0; i < COUNT(cases); ++i) replay(i);
    for (size_t i = 0; i < COUNT(chats); ++i) replay_chat(i);
    test_errors();
    soak();
    printf("%zu cases, %zu chats: %d failures\n", COUNT(cases), COUNT(chats), failures);
    return failures != 0;
}
