/* Tells a story from a package.   story MODEL.edge ["Once upon a time"] [TOKENS] */
#include <edgekit/edgekit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static edgekit_error error;

static int failed(const char* what) {
    fprintf(stderr, "%s: %s (%s)\n", what, error.message, edgekit_status_name(error.status));
    return 1;
}

static int tell(edgekit_model* model, edgekit_session* session, const char* prompt, unsigned max_tokens) {
    edgekit_generate_options options;
    /* With the sampling that the package's makers advise. */
    edgekit_generate_options_init(&options, model);
    options.prompt = prompt;
    options.prompt_size = strlen(prompt);
    options.max_tokens = max_tokens;
    options.seed = 7; /* the same story every time */
    if (edgekit_session_generate(session, &options, &error)) return failed("generate");
    fputs(prompt, stdout);
    for (;;) {
        edgekit_event event = {.struct_size = sizeof event};
        if (edgekit_session_next(session, &event, &error)) return failed("generate");
        switch (event.kind) {
            case EDGEKIT_EVENT_TEXT:
                fwrite(event.text.data, 1, event.text.size, stdout);
                fflush(stdout);
                break;
            case EDGEKIT_EVENT_EVICTED:
                fprintf(stderr, "[%llu tokens left the cache]", (unsigned long long)event.evicted_count);
                break;
            case EDGEKIT_EVENT_DONE:
                fprintf(stderr, "\n%u tokens\n", event.generated_tokens);
                return 0;
            case EDGEKIT_EVENT_MOVED:
            case EDGEKIT_EVENT_PROMPT:
                break; /* not asked for */
        }
    }
}

int main(int argc, char** argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL.edge [PROMPT] [TOKENS]\n", argv[0]);
        return 2;
    }
    edgekit_model* model = NULL;
    if (edgekit_model_open(argv[1], NULL, &model, &error)) return failed(argv[1]);

    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = 256; /* constant memory, however long the story gets */
    edgekit_session* session = NULL;
    int status = edgekit_session_create(model, &options, &session, &error)
                     ? failed("session")
                     : tell(model, session, argc > 2 ? argv[2] : "Once upon a time",
                            argc > 3 ? (unsigned)atoi(argv[3]) : 100);
    edgekit_session_free(session);
    edgekit_model_free(model);
    return status;
}
