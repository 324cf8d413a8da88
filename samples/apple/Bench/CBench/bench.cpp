#include <cstdlib>
#include <cstring>
#include <string>

#include "CEdgeKitBench.h"
#include "commands.h"

struct edgekit_bench {
    edgekit::bench::Bench commands;
};

edgekit_bench* edgekit_bench_create() { return new edgekit_bench; }

void edgekit_bench_free(edgekit_bench* bench) { delete bench; }

char* edgekit_bench_answer(edgekit_bench* bench, const char* line) {
    const std::string text = edgekit::bench::answer_any(bench->commands, line);
    char* copy = static_cast<char*>(std::malloc(text.size() + 1));
    if (copy) std::memcpy(copy, text.c_str(), text.size() + 1);
    return copy;
}

void edgekit_bench_free_text(char* text) { std::free(text); }
