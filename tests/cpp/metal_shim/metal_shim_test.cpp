// Metal's kernels, run as C++, beside the processor: the same logits, the memory that a token reads, texts
// that go on whatever call of the device fails, and bugs that are noticed.
//   metal_shim_test MODEL.edge    a model of matrices of several hundred columns, for the memory

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine_support.h"
#include "metal_shim_device.h"

namespace {

using edgekit::gpu::metal_shim;
using edgekit::gpu::MetalTraffic;

// Relative to the spread of the logits: the largest difference that is allowed; from an activation on that
// lies on the border of two codes; and the smallest margin of a first choice that has to be the same.
constexpr float kDifference = 2e-3f, kOnABorder = 2e-2f, kMargin = 1e-3f;

edgekit_model* open(const std::string& path, const char* name) {
    edgekit_model_options options;
    edgekit_model_options_init(&options);
    options.n_threads = 1;
    options.backend = name;
    edgekit_model* model = nullptr;
    expect_ok(edgekit_model_open(path.c_str(), &options, &model, &error), "open " + path);
    return model;
}

std::string relayed(const edgekit_model* model) {
    edgekit_model_info info{};
    info.struct_size = sizeof info;
    expect_ok(edgekit_model_get_info(model, &info, &error), "info");
    return {info.relayed.data, info.relayed.size};
}

// Logits after each of a prompt's pieces, and the status of the last one.
struct Answers {
    std::vector<std::vector<float>> logits;
    edgekit_status status = EDGEKIT_OK;
};
Answers answers(const std::string& path, const char* name, edgekit_kv_type kv) {
    edgekit_model* model = open(path, name);
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = 16;
    options.sinks = 2;
    options.kv_type = kv;
    edgekit_session* session = create_session(model, options);
    Answers out;
    int32_t id = 0;
    for (const size_t piece : {1, 3, 13, 1, 5}) {
        std::vector<int32_t> ids(piece);
        for (int32_t& each : ids) each = id = (id + 37) % 190;
        std::vector<float> logits(model->model->spec().vocab_size);
        out.status = edgekit_session_forward(session, ids.data(), ids.size(), 0, logits.data(), &error);
        out.logits.push_back(logits);
        if (out.status != EDGEKIT_OK) break;
    }
    if (std::string(name) == "gpu") check(relayed(model).empty(), path + " stays with the GPU");
    edgekit_session_free(session);
    edgekit_model_free(model);
    return out;
}

// The largest difference, relative to the spread of the logits; infinite where another token is the first
// choice.
float difference(const std::vector<float>& got, const std::vector<float>& expected) {
    const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
    const float spread = *high - *low;
    float second = *low, most = 0;
    for (auto each = expected.begin(); each != expected.end(); ++each)
        if (each != high) second = std::max(second, *each);
    for (size_t i = 0; i < got.size(); ++i) most = std::max(most, std::abs(got[i] - expected[i]));
    const auto first = std::max_element(got.begin(), got.end()) - got.begin();
    const bool same = first == high - expected.begin() || *high - second <= kMargin * spread;
    return same || most > kDifference * spread ? most / spread : std::numeric_limits<float>::infinity();
}

// How far apart each piece's logits are.
std::string differences(const Answers& got, const Answers& expected) {
    std::string found;
    for (size_t i = 0; i < got.logits.size(); ++i)
        found += " " + std::to_string(difference(got.logits[i], expected.logits[i]));
    return found;
}

bool agree(const Answers& got, const Answers& expected) {
    if (got.status != EDGEKIT_OK) return false;
    bool on_a_border = false;  // its cells differ from there on
    for (size_t i = 0; i < got.logits.size(); ++i) {
        const float found = difference(got.logits[i], expected.logits[i]);
        on_a_border = on_a_border || (i > 0 && found > kDifference);
        if (!(found <= (on_a_border ? kOnABorder : kDifference))) return false;
    }
    return true;
}

void test_golden_models() {
    for (const char* file : {"text.edge", "windows.edge", "convolution.edge", "experts.edge"})
        for (const edgekit_kv_type kv : {EDGEKIT_KV_F32, EDGEKIT_KV_F16, EDGEKIT_KV_INT8}) {
            const Answers got = answers(kGolden + file, "gpu", kv),
                          expected = answers(kGolden + file, "cpu", kv);
            check(agree(got, expected), std::string(file) +
                                            ": other logits than the processor's, cells of kind " +
                                            std::to_string(kv) + ":" + differences(got, expected));
        }
}

Generated story(edgekit_model* model, uint32_t tokens) {
    edgekit_session_options session_options;
    edgekit_session_options_init(&session_options);
    session_options.window = 64;
    edgekit_session* session = create_session(model, session_options);
    edgekit_generate_options options;
    edgekit_generate_options_init(&options, nullptr);
    options.prompt = "Once upon a time";
    options.prompt_size = 16;
    options.temperature = 0;
    options.max_tokens = tokens;
    options.ignore_eos = 1;
    Generated out = generate(session, options);
    edgekit_session_free(session);
    return out;
}

void test_every_call_may_fail() {
    constexpr uint32_t kTokens = 3;
    edgekit_model* cpu = open(kGolden + "text.edge", "cpu");
    const std::vector<int32_t> expected = story(cpu, kTokens).ids;
    edgekit_model_free(cpu);
    metal_shim.calls = 0;
    edgekit_model* model = open(kGolden + "text.edge", "gpu");
    check(story(model, kTokens).ids == expected && relayed(model).empty(),
          "the GPU writes the processor's text");
    edgekit_model_free(model);
    const uint64_t calls = metal_shim.calls;
    for (uint64_t call = 0; call < calls; ++call) {
        metal_shim.calls = 0;
        metal_shim.failing = call;
        metal_shim.lost = call % 2;
        model = open(kGolden + "text.edge", "gpu");
        check(story(model, kTokens).ids == expected, "the text goes on after call " + std::to_string(call));
        check(relayed(model) == "the device is gone", "and the model tells of it");
        edgekit_model_free(model);
    }
    metal_shim.failing = UINT64_MAX;
    metal_shim.lost = false;
}

// Barriers left out, other words, other numbers: of a kernel's source, what is replaced by what.
void test_bugs_are_noticed() {
    static constexpr std::array<std::array<std::string_view, 2>, 7> kBugs = {{
        {"partial[lane / SIMD] = x;\n    threadgroup_barrier(mem_flags::mem_threadgroup);",
         "partial[lane / SIMD] = x;"},
        {": 0.0f;\n        threadgroup_barrier(mem_flags::mem_threadgroup);", ": 0.0f;"},
        {"threadgroup_barrier(mem_flags::mem_threadgroup);\n    float sum = 0;",
         "if (lane < 40) threadgroup_barrier(mem_flags::mem_threadgroup);\n    float sum = 0;"},
        {"at = segment.base + tile * p.tile", "at = segment.base + tile * p.tile + (1 << 20)"},
        {"kv_head, ring[0], keys", "kv_head, ring[0] ^ 1, keys"},
        {"127.0f / peak", "126.0f / peak"},
        {"if (lane % SIMD == 0) peaks", "if (lane == 0) peaks"},
    }};
    const std::string path = kGolden + "text.edge";
    const Answers expected = answers(path, "cpu", EDGEKIT_KV_F16);
    for (const auto& [from, to] : kBugs) {
        metal_shim.plant = [&](std::string& source) {
            if (const size_t at = source.find(from); at != std::string::npos)
                source.replace(at, from.size(), to);
        };
        check(!agree(answers(path, "gpu", EDGEKIT_KV_F16), expected), "a bug is noticed: " + std::string(to));
    }
    metal_shim.plant = {};
}

// What a token reads of matrices and cells, and how much of the lines that are read for it.
void test_memory(const std::string& path) {
    edgekit_model* cpu = open(path, "cpu");
    edgekit_model* model = open(path, "gpu");
    constexpr uint32_t kTokens = 24;
    check(story(model, kTokens).ids == story(cpu, kTokens).ids, path + ": the processor's text");
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = 64;
    edgekit_session* session = create_session(model, options);
    const std::vector<int32_t> ids(63, 7);
    expect_ok(edgekit_session_forward(session, ids.data(), ids.size(), 0, nullptr, &error), "forward");
    metal_shim.counting = true;
    metal_shim.dispatches = 0;
    metal_shim.traffic = {};
    std::vector<float> logits(model->model->spec().vocab_size);
    expect_ok(edgekit_session_forward(session, ids.data(), 1, 0, logits.data(), &error), "forward");
    metal_shim.counting = false;
    edgekit_memory_plan plan{};
    plan.struct_size = sizeof plan;
    expect_ok(edgekit_session_get_plan(session, &plan, &error), "plan");
    constexpr std::array<const char*, 6> kNames = {"params", "rows", "vectors", "weights", "arena", "cells"};
    for (size_t i = 0; i < kNames.size(); ++i)
        std::printf("%-8s %9lu bytes in %7lu lines\n", kNames[i], metal_shim.traffic[i].bytes,
                    metal_shim.traffic[i].lines);
    std::printf("weights %lu bytes, cache %lu bytes, %lu dispatches\n", plan.weight_bytes, plan.cache_bytes,
                metal_shim.dispatches);
    const MetalTraffic &weights = metal_shim.traffic[3], &cells = metal_shim.traffic[5];
    const auto read = static_cast<double>(weights.bytes + cells.bytes);
    check(read <= 1.03 * static_cast<double>(plan.weight_bytes + plan.cache_bytes),
          "a token reads the weights and the cache once");
    check(read >= 0.9 * 128 * static_cast<double>(weights.lines + cells.lines),
          "lines that are read are used");
    constexpr uint64_t kOfALayer = 10, kOthers = 3;  // embedding, last norm, logits
    check(metal_shim.dispatches <= kOfALayer * model->model->spec().layers.size() + kOthers,
          "dispatches are as many as docs/gpu.md says");
    edgekit_session_free(session);
    edgekit_model_free(model);
    edgekit_model_free(cpu);
}

}  // namespace

int main(int argc, char** argv) {
    test_golden_models();
    test_every_call_may_fail();
    test_bugs_are_noticed();
    for (int i = 1; i < argc; ++i) test_memory(argv[i]);
    return report();
}
