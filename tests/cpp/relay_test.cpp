// A backend that fails at any step of a text: the processor goes on, and the text is as if nothing had been.

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <thread>

#include "engine_support.h"

namespace {

// The processor behind a device that fails.
struct Fault {
    uint32_t pass = UINT32_MAX;  // how many passes it computes
    bool lost = false;           // and its memory cannot be read then
    bool full = false;           // there is no room for a text
    bool foreign = false;        // it cannot compute this model
    bool absent = false;         // the machine has none
    bool wrong = false;          // it computes other numbers
    uint32_t delay_ms = 0;       // of a pass
} fault;
// What it once gave at a position, and gives again at once, unless empty.
std::map<uint64_t, std::vector<float>> known;
bool remembers = false;
uint32_t passes = 0;

bool failed() { return passes > fault.pass; }

class FaultyContext final : public edgekit::Context {
public:
    explicit FaultyContext(std::unique_ptr<edgekit::Context> cells) : cells(std::move(cells)) {}
    void save_cells(edgekit::CellRange range, const Put& put) const override {
        if (failed() && fault.lost) throw edgekit::BackendFailure("the device is lost");
        cells->save_cells(range, put);
    }
    void load_cells(edgekit::CellRange range, const std::byte* bytes) override {
        cells->load_cells(range, bytes);
    }
    void copy_cells(const Context& from) override {
        cells->copy_cells(*static_cast<const FaultyContext&>(from).cells);
    }

    const std::unique_ptr<edgekit::Context> cells;
};

class FaultyBackend final : public edgekit::Backend {
public:
    explicit FaultyBackend(std::unique_ptr<edgekit::Backend> cpu) : cpu_(std::move(cpu)) {}
    uint32_t threads() const override { return cpu_->threads(); }
    const edgekit::Kernels& kernels() const override { return cpu_->kernels(); }
    std::unique_ptr<edgekit::Context> open(const edgekit::CacheLayout& layout) override {
        if (fault.full) throw edgekit::BackendFailure("no room");
        return std::make_unique<FaultyContext>(cpu_->open(layout));
    }
    bool forward(std::span<const edgekit::Part> parts, edgekit::Output output, float* out,
                 const edgekit::GiveUp& give_up) override {
        const edgekit::Part& part = parts[0];
        ++passes;
        if (failed()) throw edgekit::BackendFailure("the device is gone");
        const edgekit::Part own{.context = *static_cast<FaultyContext&>(part.context).cells,
                                .layout = part.layout,
                                .position = part.position,
                                .rows = part.rows,
                                .ids = part.ids,
                                .wanted = part.wanted};
        std::this_thread::sleep_for(std::chrono::milliseconds(fault.delay_ms));
        if (const auto old = known.find(part.position); !remembers && old != known.end())
            return std::copy(old->second.begin(), old->second.end(), out), true;
        const bool completed = cpu_->forward({&own, 1}, output, out, give_up);
        if (fault.wrong) out[0] += 1000;
        if (remembers) known[part.position].assign(out, out + 260);
        return completed;
    }

private:
    const std::unique_ptr<edgekit::Backend> cpu_;
};

const edgekit::BackendKind kFaulty{
    .name = "faulty",
    .measure = edgekit::kCpuBackend.measure,
    .open = [](const edgekit::ModelSpec& spec, const edgekit::Weights& weights,
               const edgekit_model_options& options) -> std::unique_ptr<edgekit::Backend> {
        if (fault.foreign) throw edgekit::BackendFailure("not this model");
        if (fault.absent) throw edgekit::Error(edgekit::Status::unsupported, "no device");
        return std::make_unique<FaultyBackend>(edgekit::kCpuBackend.open(spec, weights, options));
    }};

edgekit_session* session_of(edgekit_model* model, uint32_t window) {
    edgekit_session_options options;
    edgekit_session_options_init(&options);
    options.window = window;
    options.sinks = 2;
    options.chunk = 4;
    return create_session(model, options);
}

Generated story(edgekit_session* session) {
    edgekit_generate_options options;
    edgekit_generate_options_init(&options, nullptr);
    options.prompt = "Once upon a time";
    options.prompt_size = 16;
    options.temperature = 0;
    options.max_tokens = 12;
    options.ignore_eos = 1;
    return generate(session, options);
}

void test_every_step(uint32_t window, bool lost) {
    fault = {};
    passes = 0;
    edgekit_model* model = open_model("text.edge");
    edgekit_session* session = session_of(model, window);
    const Generated whole = story(session);
    const uint32_t steps = passes;
    check(whole.done.relayed.size == 0, "nothing is told where nothing failed");
    edgekit_session_free(session);
    for (uint32_t step = 0; step < steps; ++step) {
        edgekit_model_free(model);
        model = open_model("text.edge");
        fault = {step, lost};
        passes = 0;
        session = session_of(model, window);
        const Generated text = story(session);
        check(text.ids == whole.ids, "the text goes on after a fault at step " + std::to_string(step));
        check(std::string(text.done.relayed.data, text.done.relayed.size) == "the device is gone",
              "the last event tells of it");
        edgekit_session* copy = nullptr;
        expect_ok(edgekit_session_fork(session, &copy, &error), "fork on the processor");
        edgekit_session_free(copy);
        edgekit_session_free(session);
    }
    edgekit_model_free(model);
}

// What another text had with the device moves when that text needs it.
void test_two_texts() {
    fault = {};
    passes = 0;
    edgekit_model* model = open_model("text.edge");
    edgekit_session *one = session_of(model, 40), *two = session_of(model, 40);
    const Generated expected = story(one);
    story(two);
    fault = {passes, false};
    edgekit_session *three = nullptr, *four = session_of(model, 40);
    check(story(four).ids == expected.ids, "a text that begins with the fault");
    expect_ok(edgekit_session_fork(two, &three, &error), "fork a text that is still with the device");
    check(edgekit_session_state_size(three) == edgekit_session_state_size(two), "the fork has its cells");
    const int32_t id = 7;
    std::vector<float> left(model->model->spec().vocab_size), right(left.size());
    expect_ok(edgekit_session_forward(two, &id, 1, 0, left.data(), &error), "the text goes on");
    expect_ok(edgekit_session_forward(three, &id, 1, 0, right.data(), &error), "and its fork");
    check(left == right, "alike");
    for (edgekit_session* each : {one, two, three, four}) edgekit_session_free(each);
    edgekit_model_free(model);
}

// Neither a model that the device cannot have nor a text that it has no room for is refused.
void test_no_beginning() {
    fault = {};
    passes = 0;
    edgekit_model* model = open_model("text.edge");
    edgekit_session* session = session_of(model, 40);
    const Generated expected = story(session);
    edgekit_session_free(session);
    edgekit_model_free(model);
    for (const bool full : {false, true}) {
        fault = {.full = full, .foreign = !full};
        model = open_model("text.edge");
        session = session_of(model, 40);
        const Generated text = story(session);
        check(text.ids == expected.ids, "the processor computes from the beginning");
        const std::string wanted = full ? "no room" : "not this model";
        check(std::string(text.done.relayed.data, text.done.relayed.size) == wanted, "the event says why");
        edgekit_model_info info{};
        info.struct_size = sizeof info;
        expect_ok(edgekit_model_get_info(model, &info, &error), "info");
        check(std::string(info.relayed.data, info.relayed.size) == wanted, "and so does the model");
        edgekit_session_free(session);
        edgekit_model_free(model);
    }
}

// A text whose beginning has left the history cannot be computed again.
void test_forgotten_beginning() {
    fault = {};
    passes = 0;
    edgekit_model* model = open_model("text.edge");
    edgekit_session* session = session_of(model, 16);
    const std::vector<int32_t> ids(5000, 7);  // more than penalties look back at
    expect_ok(edgekit_session_forward(session, ids.data(), ids.size(), 0, nullptr, &error), "forward");
    fault = {passes, true};
    expect(edgekit_session_forward(session, ids.data(), 1, 0, nullptr, &error), EDGEKIT_INTERNAL,
           "a lost device under a long text");
    fault.lost = false;
    expect_ok(edgekit_session_forward(session, ids.data(), 1, 0, nullptr, &error),
              "one whose memory can be read");
    edgekit_session_free(session);
    edgekit_model_free(model);
}

// "auto": the backend that computes what the processor does, and faster.
void test_auto() {
    const auto opened = [](Fault wanted) {
        fault = {};
        edgekit_model* model = open_model("text.edge");
        fault = wanted;
        passes = 0;
        edgekit_model_options options;
        edgekit_model_options_init(&options);
        options.n_threads = 1;
        options.backend = "auto";
        model->model = std::make_shared<const edgekit::Model>(
            std::make_unique<edgekit::MappedFile>(kGolden + "text.edge"), options, kFaulty);
        edgekit_model_info info{};
        info.struct_size = sizeof info;
        expect_ok(edgekit_model_get_info(model, &info, &error), "info");
        const std::string told = std::string(info.backend.data, info.backend.size) + ": " +
                                 std::string(info.relayed.data, info.relayed.size);
        edgekit_model_free(model);
        return told;
    };
    const auto begins = [](const std::string& text, const std::string& with) {
        check(text.rfind(with, 0) == 0, "\"" + text + "\" begins with \"" + with + "\"");
    };
    begins(opened({.absent = true}), "cpu: no device");
    begins(opened({.foreign = true}), "cpu: not this model");
    begins(opened({.pass = 2}), "cpu: the device is gone");
    begins(opened({.wrong = true}), "cpu: the faulty here computes other numbers");
    remembers = true;
    begins(opened({.delay_ms = 5}), "cpu: the processor is faster here: ");
    remembers = false;
    check(opened({}) == "faulty: ", "a faster backend computes");
    known.clear();
}

}  // namespace

int main() {
    backend = &kFaulty;
    for (const bool lost : {false, true})
        for (const uint32_t window : {64, 16}) test_every_step(window, lost);
    test_two_texts();
    test_no_beginning();
    test_forgotten_beginning();
    test_auto();
    return report();
}
