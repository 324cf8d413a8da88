// Passes over several texts: each weight is read once, and what a row gives is to the bit what it gives
// alone, from ids or embeddings, as logits or hidden states. And what a new kind of layer costs, by a toy
// one.

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cpu/decoder.h"
#include "engine_support.h"
#include "format/mapped_file.h"

using namespace edgekit;

namespace {

// ---- a toy layer: a mean of what went before that fades, s = (1 - f) · h + f · s, then a projection

class FadingMean final : public Mixer {
public:
    FadingMean(uint32_t width, uint32_t other_width) : width_(width), other_width_(other_width) {}

    std::unique_ptr<const Mixer> bind(Binder& bind, const ModelSpec& spec,
                                      const std::string& prefix) const override {
        auto bound = std::make_unique<FadingMean>(*this);
        bound->out_ = bind.linear(prefix + "o", spec.d_model, width_);
        bind.linear(prefix + "q", width_, spec.d_model);  // of the attention whose place it takes
        for (const char* other : {"k", "v"}) bind.linear(prefix + other, other_width_, spec.d_model);
        return bound;
    }
    // A cell: the mean so far. Of the last chunk's, so that as many tokens can be taken back.
    LayerRing ring(const CacheOptions& options) const override {
        LayerRing ring;
        ring.local = true;
        ring.window = 2;
        ring.ring = ring.slots = 1 + options.chunk;
        ring.key_bytes = round_up64(width_ * sizeof(float));
        return ring;
    }
    uint32_t width() const override { return width_; }
    const Linear& out() const override { return out_; }
    Bytes bytes(const WorkspaceShape&) const override { return {}; }
    void run(Step& step, uint32_t layer, const Activations& input, float* out) const override {
        const Rows &rows = step.rows(), &kept = step.kept(layer);
        const auto cell = [&](const Row& row, uint32_t back) {
            return row.sequence->cell(row.layout->ring(layer), row.position - back);
        };
        step.for_units(width_, [&](uint32_t first, uint32_t last) {
            for (uint32_t i = 0; i < rows.n; ++i)
                for (uint32_t c = first; c < last; ++c) {
                    const float before = rows.row[i].position ? cell(rows.row[i], 1)[c] : 0.0f;
                    cell(rows.row[i], 0)[c] =
                        (1 - kFading) * input.x[i * input.stride_x + c] + kFading * before;
                }
            for (uint32_t i = 0; i < kept.n; ++i)
                std::copy(cell(kept.row[i], 0) + first, cell(kept.row[i], 0) + last,
                          out + size_t{i} * width_ + first);
        });
        step.barrier();
    }

private:
    static constexpr float kFading = 0.75f;
    uint32_t width_, other_width_;
    Linear out_;
};

const MixerKind kFadingMean{
    "averaging", [](const json::Value& layer, const ModelSpec& spec) {
        const uint32_t other = count_at(layer, "n_kv_heads", 1, 64) * count_at(layer, "head_dim", 1, 64);
        return std::unique_ptr<const Mixer>(std::make_unique<FadingMean>(spec.d_model, other));
    }};

// A copy of text.edge whose first layer is the toy.
std::vector<std::byte> toy_package(std::span<const std::byte> package) {
    std::vector<std::byte> bytes(package.begin(), package.end());
    const std::string known = "attention", toy = std::string(kFadingMean.name);
    auto* text = reinterpret_cast<char*>(bytes.data());
    std::copy(toy.begin(), toy.end(), std::search(text, text + bytes.size(), known.begin(), known.end()));
    return bytes;
}

// ---- passes over several texts

// What a matrix's tiles were read, by address.
std::map<const std::byte*, int> reads;
const Kernels* counted = nullptr;

Kernels counting(const Kernels& kernels) {
    counted = &kernels;
    Kernels counts = kernels;
    counts.matmul = [](const Matrix& w, const Activations& x, const Store& store, uint32_t begin,
                       uint32_t end, std::byte* scratch) {
        for (uint32_t tile = begin; tile < end; ++tile) ++reads[w.tile(tile)];
        counted->matmul(w, x, store, begin, end, scratch);
    };
    return counts;
}

// Everything that a pass needs, of one package.
struct Engine {
    explicit Engine(std::span<const std::byte> bytes, const Kernels& kernels, uint32_t n_threads)
        : file(bytes),
          spec(ModelSpec::parse(file.spec())),
          weights(spec, file),
          decoder(spec, weights, kernels),
          team(n_threads, nullptr, nullptr),
          workspace(spec, weights, n_threads) {}

    std::vector<float> forward(std::span<const Part> parts, Output output) {
        uint32_t wanted = 0;
        for (const Part& part : parts) wanted += part.wanted;
        std::vector<float> out(size_t{wanted} * (output == Output::logits ? spec.vocab_size : spec.d_model));
        check(decoder.forward(parts, output, out.data(), workspace, team, team.size(), {}), "a pass");
        return out;
    }

    EdgeFile file;
    ModelSpec spec;
    Weights weights;
    Decoder decoder;
    ThreadTeam team;
    Workspace workspace;
};

struct Text {
    Text(Engine& engine, const CacheOptions& options)
        : layout(engine.spec, options), sequence(engine.spec, layout) {
        engine.workspace.fit({64, layout.most_slots()});
    }
    CacheLayout layout;
    Sequence sequence;
    uint64_t position = 0;
};

// Rows of each text in one pass and how many of them are wanted; the texts grow past their windows.
constexpr std::pair<uint32_t, uint32_t> kPasses[][4] = {
    {{9, 1}, {1, 1}, {16, 0}, {3, 3}},    {{16, 0}, {16, 16}, {1, 1}, {5, 2}},
    {{16, 1}, {7, 0}, {16, 4}, {16, 1}},  {{1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {{16, 0}, {8, 0}, {4, 0}, {2, 0}},    {{1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {{16, 1}, {16, 1}, {16, 1}, {16, 1}}, {{1, 1}, {1, 0}, {1, 1}, {1, 0}},
};

void test_company(std::span<const std::byte> package, const Kernels& kernels, uint32_t n_threads,
                  const std::string& name) {
    Engine engine(package, kernels, n_threads);
    std::vector<std::unique_ptr<Text>> together, alone;
    for (auto* texts : {&together, &alone})
        for (const CacheOptions options : {CacheOptions{20, 2, 16, KvType::f16},
                                           {60, 0, 16, KvType::int8},
                                           {30, 4, 16, KvType::int4},
                                           {600, 4, 16, KvType::f32}})
            texts->push_back(std::make_unique<Text>(engine, options));
    std::minstd_rand random(7);
    std::vector<float> embeddings(16 * engine.spec.d_model);
    for (float& number : embeddings) number = float(random() % 2001) / 1000.0f - 1.0f;

    for (size_t pass = 0; pass < std::size(kPasses); ++pass) {
        const Output output = pass % 3 == 2 ? Output::hidden : Output::logits;
        std::vector<std::vector<int32_t>> ids(4);
        std::vector<Part> parts;
        std::vector<float> expected;
        for (size_t i = 0; i < 4; ++i) {
            const auto [rows, wanted] = kPasses[pass][i];
            for (uint32_t row = 0; row < rows; ++row)
                ids[i].push_back(static_cast<int32_t>(random() % engine.spec.vocab_size));
            const bool embedded = pass == i + 1;
            const auto part = [&](Text& text) {
                return Part{.context = text.sequence,
                            .layout = text.layout,
                            .position = std::exchange(text.position, text.position + rows),
                            .rows = rows,
                            .ids = embedded ? nullptr : ids[i].data(),
                            .embeddings = embedded ? embeddings.data() : nullptr,
                            .wanted = wanted};
            };
            parts.push_back(part(*together[i]));
            const Part single = part(*alone[i]);
            const std::vector<float> out = engine.forward({&single, 1}, output);
            expected.insert(expected.end(), out.begin(), out.end());
        }
        reads.clear();
        const std::vector<float> out = engine.forward(parts, output);
        check(out == expected && (out.empty() || out[0] != out[1]),
              name + ", pass " + std::to_string(pass) + ": rows give something else in company");
        const auto most = std::max_element(reads.begin(), reads.end(),
                                           [](const auto& a, const auto& b) { return a.second < b.second; });
        check(reads.empty() || most->second == 1,
              name + ", pass " + std::to_string(pass) + ": a tile was read more than once");
    }
}

// ---- the toy through edgekit.h: what it keeps is saved, copied and taken back like any other layer's

void test_toy(std::span<const std::byte> package) {
    edgekit_model_options model_options;
    edgekit_model_options_init(&model_options);
    model_options.n_threads = 2;
    edgekit_model* model = nullptr;
    expect_ok(edgekit_model_open_memory(package.data(), package.size(), nullptr, nullptr, &model_options,
                                        &model, &error),
              "open a package with a toy layer");
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = 24;
    options.chunk = 8;
    edgekit_session *session = create_session(model, options), *other = create_session(model, options);
    std::vector<int32_t> ids(70);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7 % 60);
    std::vector<float> whole(260), again(260);
    const auto forward = [&](edgekit_session* to, size_t from, std::vector<float>& logits) {
        expect_ok(edgekit_session_forward(to, ids.data() + from, ids.size() - from, 0, logits.data(), &error),
                  "forward");
    };
    forward(session, 0, whole);
    ids[0] = 61;
    forward(other, 0, again);
    check(again != whole, "the toy has forgotten nothing of the text's beginning");
    ids[0] = 0;
    expect_ok(edgekit_session_rewind(session, 5, &error), "rewind");
    forward(session, 65, again);
    check(again == whole, "taken back, other logits");
    std::vector<char> state(edgekit_session_state_size(session));
    size_t size = 0;
    expect_ok(edgekit_session_state_write(session, state.data(), state.size(), &size, &error), "write");
    expect_ok(edgekit_session_state_read(other, state.data(), size, &error), "read");
    edgekit_session* fork = nullptr;
    expect_ok(edgekit_session_fork(session, &fork, &error), "fork");
    ids.push_back(9);
    forward(session, 70, whole);
    for (edgekit_session* copy : {other, fork}) {
        forward(copy, 70, again);
        check(again == whole, "restored or forked, other logits");
    }
    for (edgekit_session* each : {session, other, fork}) edgekit_session_free(each);
    edgekit_model_free(model);
}

// Bytes on 64, as a mapped file's are.
struct Aligned {
    explicit Aligned(const std::vector<std::byte>& from) : memory(from.size() + 64) {
        void* begin = memory.data();
        size_t space = memory.size();
        bytes = {static_cast<std::byte*>(std::align(64, from.size(), begin, space)), from.size()};
        std::copy(from.begin(), from.end(), const_cast<std::byte*>(bytes.data()));
    }
    std::vector<std::byte> memory;
    std::span<const std::byte> bytes;
};

}  // namespace

int main() {
    mixer_kinds().push_back(kFadingMean);
    const MappedFile text(kGolden + "text.edge");
    const Aligned toy(toy_package(text.bytes()));
    const Kernels* kernels[16];
    const size_t n = list_kernels(kernels, 16);
    for (size_t i = 0; i < n; ++i) {
        const Kernels counts = counting(*kernels[i]);
        const std::string isa = kernels[i]->isa;
        for (const char* name :
             {"text.edge", "windows.edge", "convolution.edge", "experts.edge", "recurrent.edge"})
            test_company(MappedFile(kGolden + name).bytes(), counts, 1, isa + ", " + name);
        test_company(toy.bytes, *kernels[i], 2, isa + ", a toy layer");
        test_company(text.bytes(), *kernels[i], 3, isa + ", three threads");
    }
    test_toy(toy.bytes);
    return report();
}
