// The commands of edgekit_bench, over edgekit.h alone: one line each, answered by one line of JSON.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "device.h"
#include "edgekit/edgekit.h"
#include "json.h"
#include "machine.h"

namespace edgekit::bench {

inline void check(edgekit_status status, const edgekit_error& error) {
    if (status != EDGEKIT_OK) throw std::runtime_error(error.message);
}

struct Free {
    void operator()(edgekit_model* model) const { edgekit_model_free(model); }
    void operator()(edgekit_session* session) const { edgekit_session_free(session); }
};

struct Measured {
    double ttft, decode;  // seconds: to the first token, and from there to the last
    size_t decoded;       // tokens after the first
};

class Bench {
public:
    std::string open(uint32_t threads, const std::string& kv, uint32_t positions, const std::string& path) {
        edgekit_error error;
        const double start = machine::seconds();
        edgekit_model_options model_options;
        edgekit_model_options_init(&model_options);
        model_options.n_threads = threads;
        session_.reset();
        edgekit_model* model = nullptr;
        check(edgekit_model_open(path.c_str(), &model_options, &model, &error), error);
        model_.reset(model);

        edgekit_session_options options;
        edgekit_session_options_init(&options);
        options.kv_type = kv_type(kv);
        options.sinks = 4;
        if (positions > options.sinks) options.window = positions - options.sinks;
        edgekit_session* session = nullptr;
        check(edgekit_session_create(model, &options, &session, &error), error);
        session_.reset(session);
        const double took = machine::seconds() - start;

        edgekit_model_info info{};
        info.struct_size = sizeof info;
        check(edgekit_model_get_info(model, &info, &error), error);
        edgekit_memory_plan plan{};
        plan.struct_size = sizeof plan;
        check(edgekit_session_get_plan(session, &plan, &error), error);
        vocab_size_ = info.vocab_size;
        return Json()
            .add("load_ms", 1e3 * took)
            .add("version", edgekit_version())
            .add("isa", std::string_view(info.isa.data, info.isa.size))
            .add("threads", info.n_threads)
            .add("cache_bytes", plan.cache_bytes)
            .add("slots", uint64_t{plan.window} + plan.sinks)
            .text();
    }

    std::string fill(uint64_t count) {
        edgekit_error error;
        const uint64_t have = edgekit_session_position(session());
        if (have > count && edgekit_session_rewind(session(), have - count, &error) != EDGEKIT_OK)
            check(edgekit_session_reset(session(), &error), error);  // a state that cannot be taken back
        const uint64_t missing = count - edgekit_session_position(session());
        const std::vector<int32_t> ids = random_ids(missing);
        if (missing)
            check(edgekit_session_forward(session(), ids.data(), ids.size(), 0, nullptr, &error), error);
        return "{}";
    }

    std::string measure(uint32_t prompt, uint32_t decode) {
        const Measured took = generate(prompt, decode);
        return Json()
            .add("ttft_ms", 1e3 * took.ttft)
            .add("decode_ms", 1e3 * took.decode)
            .add("decoded", took.decoded)
            .text();
    }

    // Decodes again and again, for so many seconds. Power is the mean of what the battery said after each
    // round.
    std::string stretch(double seconds_wanted, uint32_t decode) {
        const double start = machine::seconds();
        double spent = 0, milliwatts = 0;
        size_t tokens = 0, rounds = 0, readings = 0;
        Battery last;
        do {
            fill(0);
            const Measured took = generate(1, decode);
            spent += took.decode;
            tokens += took.decoded;
            ++rounds;
            last = kernel_battery();
            if (last.milliwatts) milliwatts += *last.milliwatts, ++readings;
        } while (machine::seconds() - start < seconds_wanted);
        last = battery();
        std::optional<double> mean;
        if (readings) mean = milliwatts / static_cast<double>(readings);
        return Json()
            .add("seconds", machine::seconds() - start)
            .add("tokens", tokens + rounds)  // with the first of each round
            .add("decoded", tokens)
            .add("decode_ms", 1e3 * spent)
            .add("temperature_c", temperature_c(last))
            .add("charging", last.charging)
            .add("level", last.level)
            .add("milliwatts", mean)
            .text();
    }

    // The first choice after each of `ids`, and the logits of `chosen` after the last.
    std::string logits(const std::vector<int32_t>& chosen, const std::vector<int32_t>& ids) {
        edgekit_error error;
        check(edgekit_session_reset(session(), &error), error);
        const size_t width = static_cast<size_t>(vocab_size_);
        for (const int32_t id : chosen)
            if (id < 0 || id >= vocab_size_) throw std::runtime_error("no such id: " + std::to_string(id));
        std::vector<float> all(ids.size() * width);
        check(edgekit_session_forward(session(), ids.data(), ids.size(), 1, all.data(), &error), error);
        std::vector<int64_t> first;
        first.reserve(ids.size());
        for (auto row = all.begin(); row != all.end(); row += vocab_size_)
            first.push_back(std::max_element(row, row + vocab_size_) - row);
        std::vector<float> values;
        values.reserve(chosen.size());
        for (const int32_t id : chosen)
            values.push_back(all[(ids.size() - 1) * width + static_cast<size_t>(id)]);
        return Json().add("top1", first).add("logits", values).text();
    }

private:
    Measured generate(uint32_t prompt, uint32_t decode) {
        edgekit_error error;
        const std::vector<int32_t> ids = random_ids(prompt);
        edgekit_generate_options options;
        edgekit_generate_options_init(&options, nullptr);
        options.prompt_ids = ids.data();
        options.prompt_ids_count = ids.size();
        options.prompt_mode = EDGEKIT_PROMPT_APPEND;
        options.max_tokens = decode + 1;
        options.ignore_eos = 1;
        options.temperature = 0;
        options.speculation = 0;  // every token is computed

        edgekit_event event{};
        event.struct_size = sizeof event;
        const double start = machine::seconds();
        double first = 0, last = 0;
        size_t generated = 0, with_first = 0;
        check(edgekit_session_generate(session(), &options, &error), error);
        do {
            check(edgekit_session_next(session(), &event, &error), error);
            if (event.kind != EDGEKIT_EVENT_TEXT || event.token_count == 0) continue;
            last = machine::seconds();
            if (!generated) first = last, with_first = event.token_count;
            generated += event.token_count;
        } while (event.kind != EDGEKIT_EVENT_DONE);
        if (!generated) throw std::runtime_error("the model generated nothing");
        return {first - start, last - first, generated - with_first};
    }

    static edgekit_kv_type kv_type(const std::string& name) {
        const char* const names[] = {"auto", "f32", "f16", "int8", "int4"};
        for (int i = 0; i < 5; ++i)
            if (name == names[i]) return static_cast<edgekit_kv_type>(i);
        throw std::runtime_error("kv is " + name + "; there are auto, f32, f16, int8 and int4");
    }

    edgekit_session* session() const {
        if (!session_)
            throw std::runtime_error("nothing is open; begin with: open THREADS KV POSITIONS PATH");
        return session_.get();
    }

    std::vector<int32_t> random_ids(uint64_t count) {
        std::vector<int32_t> ids(count);
        for (int32_t& id : ids) {
            state_ = state_ * 6364136223846793005u + 1442695040888963407u;
            id = static_cast<int32_t>((state_ >> 33) % static_cast<uint64_t>(vocab_size_));
        }
        return ids;
    }

    std::unique_ptr<edgekit_model, Free> model_;
    std::unique_ptr<edgekit_session, Free> session_;
    uint64_t state_ = 1;
    int32_t vocab_size_ = 1;
};

inline std::string measure_machine(unsigned threads) {
    if (!threads) threads = std::max(1u, std::thread::hardware_concurrency());
    const auto peak = machine::dot_peak(threads);
    Json out;
    out.add("threads", threads)
        .add("clock_hz", machine::clock_hz())
        .add("read_bytes_s", machine::read_bytes_s(threads));
    if (peak.instruction) out.add("dot_instruction", peak.instruction).add("dot_macs_s", peak.macs_s);
    return out.text();
}

// "1,2,3"; empty when it is something else.
inline std::vector<int32_t> ids_of(const std::string& text) {
    std::vector<int32_t> ids;
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        char* end = nullptr;
        ids.push_back(static_cast<int32_t>(std::strtol(part.c_str(), &end, 10)));
        if (part.empty() || *end) return {};
    }
    return ids;
}

inline std::string answer(Bench& bench, const std::string& line) {
    std::istringstream words(line);
    std::string command, text, path;
    uint32_t a = 0, b = 0;
    double seconds = 0, limit = 0;
    words >> command;
    if (command == "ready") return "{}";
    if (command == "facts") return facts();
    if (command == "state") return state();
    if (command == "memory") return memory();
    if (command == "machine" && words >> a && a <= 1024) return measure_machine(a);
    if (command == "cool" && words >> seconds >> limit) return cool(seconds, limit);
    if (command == "open" && words >> a >> text >> b && std::getline(words >> std::ws, path))
        return bench.open(a, text, b, path);
    if (command == "fill" && words >> a) return bench.fill(a);
    if (command == "measure" && words >> a >> b && a > 0) return bench.measure(a, b);
    if (command == "stretch" && words >> seconds >> a && a > 0) return bench.stretch(seconds, a);
    if (command == "logits" && words >> text >> path)
        if (const auto chosen = ids_of(text), ids = ids_of(path); !chosen.empty() && !ids.empty())
            return bench.logits(chosen, ids);
    throw std::runtime_error("not a command: " + line);
}

// The same, with errors as an answer.
inline std::string answer_any(Bench& bench, const std::string& line) {
    try {
        return answer(bench, line);
    } catch (const std::exception& error) {
        return Json().add("error", error.what()).text();
    }
}

}  // namespace edgekit::bench
