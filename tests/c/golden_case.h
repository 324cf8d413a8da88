#pragma once
/* The rows of the generated cases.h. */
#include <edgekit/edgekit.h>

typedef struct golden_ids {
    const int32_t* data;
    size_t count;
} golden_ids;

typedef struct golden_case {
    const char* model;
    uint32_t window, sinks;
    edgekit_kv_type kv;
    edgekit_span prompt;   /* or */
    golden_ids prompt_ids; /* or */
    edgekit_span messages; /* JSON */
    void (*set_options)(edgekit_generate_options*);
    golden_ids stop_ids;
    golden_ids ids; /* what is generated */
    edgekit_span text;
    edgekit_finish finish;
} golden_case;

typedef struct golden_chat {
    const char* model;
    edgekit_span messages; /* JSON */
    edgekit_span text;
    golden_ids ids;
} golden_chat;

#include "cases.h"
