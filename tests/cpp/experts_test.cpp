// A mixture of experts through edgekit.h: rows are grouped by expert, which no row's result may show.

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "engine_support.h"

namespace {

constexpr size_t kTokens = 200;  // more of a chunk than are gathered at once go through some expert

std::vector<float> logits_of(const std::string& isa, uint32_t threads, uint32_t chunk) {
    edgekit_model* model = open_model("experts.edge", isa.c_str(), threads);
    edgekit_model_info info;
    info.struct_size = sizeof info;
    expect_ok(edgekit_model_get_info(model, &info, &error), "info");
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = 256;
    options.chunk = chunk;
    edgekit_session* session = create_session(model, options);
    std::vector<int32_t> ids(kTokens);
    for (size_t i = 0; i < kTokens; ++i) ids[i] = static_cast<int32_t>(i * i % 61);
    std::vector<float> logits(kTokens * static_cast<size_t>(info.vocab_size));
    expect_ok(edgekit_session_forward(session, ids.data(), kTokens, 1, logits.data(), &error), "forward");
    edgekit_session_free(session);
    edgekit_model_free(model);
    return logits;
}

}  // namespace

int main() {
    std::stringstream isas(edgekit_isas());
    for (std::string isa; std::getline(isas, isa, ',');) {
        const std::vector<float> alone = logits_of(isa, 1, 1);
        for (const uint32_t threads : {1u, 3u})
            for (const uint32_t chunk : {7u, 256u})
                check(logits_of(isa, threads, chunk) == alone,
                      isa + ", " + std::to_string(threads) + " threads, chunks of " + std::to_string(chunk) +
                          ": other logits than token by token");
    }
    return report();
}
