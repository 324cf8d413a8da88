// The commands of cpp/bench/edgekit_bench.cpp, for an app, which can start no process.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

typedef struct edgekit_bench edgekit_bench;

edgekit_bench* edgekit_bench_create(void);
void edgekit_bench_free(edgekit_bench* bench);

// One command line; one line of JSON, which edgekit_bench_free_text frees. A command that fails is answered
// by {"error": "…"}.
char* edgekit_bench_answer(edgekit_bench* bench, const char* line);
void edgekit_bench_free_text(char* text);

#ifdef __cplusplus
}
#endif
