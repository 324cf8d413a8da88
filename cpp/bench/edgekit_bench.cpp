// edgekit_bench: the engine as `edgekit bench` measures it, over edgekit.h alone, so that the same program
// runs on a device. One command a line on stdin, one line of JSON for each on stdout:
//
//   machine THREADS                   this machine's clock, read bandwidth and dot-product peak
//   ready                             {}
//   open THREADS KV POSITIONS PATH    a package, and a session with room for so many positions
//                                     (THREADS 0: chosen; KV: auto, f32, f16, int8, int4)
//   fill COUNT                        the cache holds exactly COUNT tokens
//   measure PROMPT DECODE             a prompt of PROMPT tokens after those, DECODE tokens after its first
//
// A command that fails is answered by {"error": "…"}.
//
//   printf 'open 0 int8 1024 model.edge\nfill 0\nmeasure 512 64\n' | edgekit_bench

#include <cstdio>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgekit/edgekit.h"
#include "machine.h"

namespace {

using edgekit::machine::seconds;

void check(edgekit_status status, const edgekit_error& error) {
    if (status != EDGEKIT_OK) throw std::runtime_error(error.message);
}

std::string json_text(const std::string& text) {
    std::string out = "\"";
    char escaped[8];
    for (const char c : text)
        if (static_cast<unsigned char>(c) < 0x20) {
            std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
            out += escaped;
        } else {
            if (c == '"' || c == '\\') out += '\\';
            out += c;
        }
    return out + '"';
}

std::string json_text(edgekit_span span) { return json_text(std::string(span.data, span.size)); }

struct Free {
    void operator()(edgekit_model* model) const { edgekit_model_free(model); }
    void operator()(edgekit_session* session) const { edgekit_session_free(session); }
};

class Bench {
public:
    std::string open(uint32_t threads, const std::string& kv, uint32_t positions, const std::string& path) {
        edgekit_error error;
        const double start = seconds();
        edgekit_model_options model_options;
        edgekit_model_options_init(&model_options);
        model_options.n_threads = threads;
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
        const double took = seconds() - start;

        edgekit_model_info info{};
        info.struct_size = sizeof info;
        check(edgekit_model_get_info(model, &info, &error), error);
        edgekit_memory_plan plan{};
        plan.struct_size = sizeof plan;
        check(edgekit_session_get_plan(session, &plan, &error), error);
        vocab_size_ = info.vocab_size;
        std::ostringstream out;
        out << "{\"load_ms\": " << 1e3 * took << ", \"version\": " << json_text(edgekit_version())
            << ", \"isa\": " << json_text(info.isa) << ", \"threads\": " << info.n_threads
            << ", \"cache_bytes\": " << plan.cache_bytes
            << ", \"slots\": " << uint64_t{plan.window} + plan.sinks << "}";
        return out.str();
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
        const double start = seconds();
        double first = 0, last = 0;
        size_t generated = 0, with_first = 0;
        check(edgekit_session_generate(session(), &options, &error), error);
        do {
            check(edgekit_session_next(session(), &event, &error), error);
            if (event.kind != EDGEKIT_EVENT_TEXT || event.token_count == 0) continue;
            last = seconds();
            if (!generated) first = last, with_first = event.token_count;
            generated += event.token_count;
        } while (event.kind != EDGEKIT_EVENT_DONE);
        if (!generated) throw std::runtime_error("the model generated nothing");
        std::ostringstream out;
        out << "{\"ttft_ms\": " << 1e3 * (first - start) << ", \"decode_ms\": " << 1e3 * (last - first)
            << ", \"decoded\": " << generated - with_first << "}";
        return out.str();
    }

private:
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

std::string measure_machine(unsigned threads) {
    const auto peak = edgekit::machine::dot_peak(threads);
    std::ostringstream out;
    out << "{\"threads\": " << threads << ", \"clock_hz\": " << edgekit::machine::clock_hz()
        << ", \"read_bytes_s\": " << edgekit::machine::read_bytes_s(threads);
    if (peak.instruction)
        out << ", \"dot_instruction\": " << json_text(peak.instruction)
            << ", \"dot_macs_s\": " << peak.macs_s;
    out << "}";
    return out.str();
}

std::string answer(Bench& bench, const std::string& line) {
    std::istringstream words(line);
    std::string command, kv, path;
    uint32_t a = 0, b = 0;
    words >> command;
    if (command == "machine" && words >> a && a > 0 && a <= 1024) return measure_machine(a);
    if (command == "ready") return "{}";
    if (command == "open" && words >> a >> kv >> b && std::getline(words >> std::ws, path))
        return bench.open(a, kv, b, path);
    if (command == "fill" && words >> a) return bench.fill(a);
    if (command == "measure" && words >> a >> b && a > 0) return bench.measure(a, b);
    throw std::runtime_error("not a command: " + line);
}

}  // namespace

int main() {
    Bench bench;
    for (std::string line; std::getline(std::cin, line);) {
        if (line.empty()) continue;
        try {
            std::cout << answer(bench, line) << '\n' << std::flush;
        } catch (const std::exception& error) {
            std::cout << "{\"error\": " << json_text(error.what()) << "}\n" << std::flush;
        }
    }
    return 0;
}
