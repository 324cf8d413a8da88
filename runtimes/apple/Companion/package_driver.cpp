// What converters/formats/_coreml_session.py is, over a runner: the functions, slots, masks, angles and
// embeddings of a package's steps.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgekit_package.h"

namespace {

constexpr float kHidden = -4e4f;      // a mask's value for slots that a token does not see; float16 holds it
constexpr uint32_t kStateWidth = 32;  // inputs that a convolution's state holds

struct Rope {
    std::vector<double> inv_freq;
    double factor;
};

struct Ring : edgekit_package_ring {
    uint64_t slot(uint64_t position) const {
        return position < sinks ? position : sinks + (position - sinks) % turn;
    }
    // Whether the token at `position` sees a slot, when positions up to `last` have been written.
    bool sees(uint64_t position, uint64_t slot, uint64_t last) const {
        if (slot >= uint64_t{sinks} + turn) return false;
        uint64_t held = slot;  // the slot's position: the last that lies in it
        if (slot >= sinks) {
            if (slot > last) return false;
            held = last - (last - slot) % turn;
        }
        return held <= position && held <= last && (position - held < window || held < sinks);
    }
};

// embeddings.bin: rows of int8 with a scale, or of floats; its size tells which.
class Embeddings {
public:
    Embeddings(const char* path, uint32_t vocab_size, uint32_t d_model)
        : d_model_(d_model), file_(path, std::ios::binary | std::ios::ate) {
        if (!file_) throw std::runtime_error(std::string("cannot read ") + path);
        const auto size = static_cast<uint64_t>(file_.tellg());
        row_bytes_ = size / vocab_size;
        if (size % vocab_size ||
            (row_bytes_ != d_model + 4 && row_bytes_ != 2 * d_model && row_bytes_ != 4 * d_model))
            throw std::runtime_error(std::string(path) + " has " + std::to_string(size) +
                                     " bytes, which are not " + std::to_string(vocab_size) + " rows of " +
                                     std::to_string(d_model) + " numbers: convert the checkpoint again");
        row_.resize(row_bytes_);
    }

    void read(int32_t id, std::span<float> out) {
        file_.seekg(static_cast<std::streamoff>(row_bytes_ * static_cast<uint64_t>(id)));
        file_.read(row_.data(), static_cast<std::streamsize>(row_bytes_));
        if (!file_) throw std::runtime_error("embeddings.bin ends before its last row");
        if (row_bytes_ == 4 * d_model_) {
            std::memcpy(out.data(), row_.data(), row_bytes_);
        } else if (row_bytes_ == d_model_ + 4) {
            float scale = 0;
            std::memcpy(&scale, row_.data() + d_model_, sizeof scale);
            for (size_t i = 0; i < d_model_; ++i)
                out[i] = static_cast<float>(static_cast<int8_t>(row_[i])) * scale;
        } else {
            for (size_t i = 0; i < d_model_; ++i) {
                uint16_t half = 0;
                std::memcpy(&half, row_.data() + 2 * i, sizeof half);
                out[i] = widened(half);
            }
        }
    }

private:
    static float widened(uint16_t half) {
        const uint32_t magnitude = half & 0x7FFFu;
        const float value = magnitude < 0x400 ? std::ldexp(static_cast<float>(magnitude), -24)
                                              : std::ldexp(static_cast<float>(0x400 | (magnitude & 0x3FF)),
                                                           static_cast<int>(magnitude >> 10) - 25);
        return half & 0x8000u ? -value : value;
    }

    const uint64_t d_model_;
    std::ifstream file_;
    uint64_t row_bytes_ = 0;
    std::string row_;
};

struct Step {
    uint32_t tokens = 0, context = 0;
    bool logits = false;

    std::string name() const {
        return std::string(logits ? "extend_" : "prompt_") + std::to_string(context) + "_" +
               std::to_string(tokens);
    }
};

// The inputs of a step, in one buffer after the other.
class Inputs {
public:
    explicit Inputs(bool columns) : columns_(columns) {}

    // [rows][width] of tokens as the program has them: behind `before` axes of 1, a token a row, or a column.
    std::span<float> table(std::string name, uint32_t tokens, size_t width, bool middle) {
        const auto n = static_cast<int64_t>(tokens), w = static_cast<int64_t>(width);
        if (!columns_) return middle ? add(std::move(name), {1, n, w}) : add(std::move(name), {1, 1, n, w});
        return middle ? add(std::move(name), {1, w, 1, n}) : add(std::move(name), {1, 1, w, n});
    }
    std::span<float> add(std::string name, std::vector<int64_t> shape) {
        size_t size = 1;
        for (const int64_t axis : shape) size *= static_cast<size_t>(axis);
        Tensor& tensor = tensors_.emplace_back();
        tensor.name = std::move(name);
        tensor.shape = std::move(shape);
        tensor.values.resize(size);
        return tensor.values;
    }
    void add_integer(std::string name, int32_t value) {
        Tensor& tensor = tensors_.emplace_back();
        tensor.name = std::move(name);
        tensor.shape = {1};
        tensor.integer = value;
    }
    // Where a token's number lies in a table.
    size_t at(uint32_t tokens, size_t width, uint32_t token, size_t i) const {
        return columns_ ? i * tokens + token : token * width + i;
    }
    std::vector<edgekit_package_input> all() const {
        std::vector<edgekit_package_input> found;
        for (const Tensor& tensor : tensors_) {
            edgekit_package_input& input = found.emplace_back();
            input.name = tensor.name.c_str();
            input.rank = tensor.shape.size();
            std::copy(tensor.shape.begin(), tensor.shape.end(), input.shape);
            input.values = tensor.values.empty() ? nullptr : tensor.values.data();
            input.integers = tensor.values.empty() ? &tensor.integer : nullptr;
        }
        return found;
    }

private:
    struct Tensor {
        std::string name;
        std::vector<int64_t> shape;
        std::vector<float> values;
        int32_t integer = 0;
    };
    const bool columns_;
    std::vector<Tensor> tensors_;
};

class Package {
public:
    explicit Package(const edgekit_package_facts& facts)
        : name(facts.name),
          facts_(facts),
          contexts_(facts.contexts, facts.contexts + facts.contexts_count),
          embeddings_path_(facts.embeddings) {
        for (size_t i = 0; i < facts.rings_count; ++i) rings_.push_back({facts.rings[i]});
        for (size_t i = 0; i < facts.ropes_count; ++i) {
            const edgekit_package_rope& rope = facts.ropes[i];
            ropes_.push_back({{rope.inv_freq, rope.inv_freq + rope.count}, rope.factor});
        }
        if (contexts_.empty() || !facts.chunk || !facts.width || !facts.vocab_size || !facts.d_model ||
            std::any_of(rings_.begin(), rings_.end(), [](const Ring& ring) { return ring.turn == 0; }))
            throw std::invalid_argument("the package's facts lack a context, a step, a vocabulary or a turn");
        embeddings();  // what is wrong with the file is told now
    }

    const edgekit_package_facts& facts() const { return facts_; }
    bool has_convolutions() const { return facts_.conv_kernel > 0; }
    // A file of its own for each text.
    Embeddings embeddings() const { return {embeddings_path_.c_str(), facts_.vocab_size, facts_.d_model}; }

    // The function for the next of `left` tokens, and how many it takes: no step goes past a ring's turn, and
    // the last gives logits.
    template <class Has>
    std::pair<Step, uint32_t> next_step(uint64_t position, uint64_t left, const Has& has) const {
        uint64_t room = left;
        bool fits = true;
        for (const Ring& ring : rings_) {
            const uint64_t slot = ring.slot(position);
            room = std::min<uint64_t>(room, uint64_t{ring.sinks} + ring.turn - slot);
            fits &= slot + facts_.chunk <= ring.slots;
        }
        Step step;
        step.logits = left <= facts_.width + 1 || !fits;
        step.tokens = step.logits ? facts_.width : facts_.chunk;
        const auto shorter = std::find_if(contexts_.begin(), contexts_.end() - 1, [&](uint32_t context) {
            return position + step.tokens <= context && has(Step{step.tokens, context, step.logits}.name());
        });
        step.context = *shorter;
        const uint64_t most = step.logits ? left : left - 1;
        return {step, static_cast<uint32_t>(std::min<uint64_t>({step.tokens, most, room}))};
    }

    // Every input that the function may have; tokens past `ids` are padding.
    Inputs inputs(const Step& step, uint64_t position, std::span<const int32_t> ids,
                  Embeddings& embeddings) const {
        const uint32_t n = step.tokens;
        const auto count = static_cast<uint32_t>(ids.size());
        Inputs given(facts_.columns != 0);
        const auto rows = given.table("embeddings", n, facts_.d_model, true);
        std::vector<float> row(facts_.d_model);
        for (uint32_t token = 0; token < n; ++token) {
            if (token < count) embeddings.read(ids[token], row);
            for (size_t i = 0; i < row.size(); ++i) rows[given.at(n, row.size(), token, i)] = row[i];
        }
        for (size_t r = 0; r < rings_.size(); ++r) {
            const Ring& ring = rings_[r];
            const size_t slots = std::min(step.context, ring.slots);
            const auto mask = facts_.columns ? given.add("mask_" + std::to_string(r),
                                                         {1, static_cast<int64_t>(slots), 1, n})
                                             : given.table("mask_" + std::to_string(r), n, slots, false);
            for (uint32_t token = 0; token < n; ++token)
                for (size_t slot = 0; slot < slots; ++slot)
                    mask[given.at(n, slots, token, slot)] =
                        ring.sees(position + token, slot, position + count - 1) ? 0 : kHidden;
            given.add_integer("slot_" + std::to_string(r), static_cast<int32_t>(ring.slot(position)));
        }
        for (size_t r = 0; r < ropes_.size(); ++r) {
            add_angles(given, "", r, n, [&](uint32_t token) { return position + token; });
            const uint64_t last_sink = uint64_t{facts_.window} + facts_.sinks - 1;
            add_angles(given, "sink_", r, n,
                       [&](uint32_t token) { return std::min<uint64_t>(position + token, last_sink); });
        }
        given.add("select", {1, 1, 1, n})[count - 1] = 1;
        if (has_convolutions()) {  // the last inputs, of those before and these
            const auto tail = given.add("conv_tail", {1, 1, kStateWidth + n, kStateWidth});
            for (uint32_t i = 0; i < kStateWidth; ++i) tail[size_t{count + i} * kStateWidth + i] = 1;
        }
        return given;
    }

    const std::string name;

private:
    template <class Seen>
    void add_angles(Inputs& given, const std::string& prefix, size_t r, uint32_t n, const Seen& seen) const {
        const Rope& rope = ropes_[r];
        const size_t half = rope.inv_freq.size();
        const auto cosines = given.table(prefix + "cos_" + std::to_string(r), n, half, false);
        const auto sines = given.table(prefix + "sin_" + std::to_string(r), n, half, false);
        for (uint32_t token = 0; token < n; ++token)
            for (size_t i = 0; i < half; ++i) {
                const double angle = static_cast<double>(seen(token)) * rope.inv_freq[i];
                cosines[given.at(n, half, token, i)] = static_cast<float>(std::cos(angle) * rope.factor);
                sines[given.at(n, half, token, i)] = static_cast<float>(std::sin(angle) * rope.factor);
            }
    }

    edgekit_package_facts facts_;  // its pointers are not used
    std::vector<uint32_t> contexts_;
    std::vector<Ring> rings_;
    std::vector<Rope> ropes_;
    std::string embeddings_path_;
};

struct Driver {
    Package package;
    edgekit_package_runner runner;

    ~Driver() {
        if (runner.release) runner.release(runner.context);
    }
};

class Text {
public:
    explicit Text(Driver& driver) : driver_(driver), embeddings_(driver.package.embeddings()) {}
    ~Text() { close(); }

    edgekit_status open(edgekit_error* error) {
        return driver_.runner.open(driver_.runner.context, &states_, error);
    }

    edgekit_status append(uint64_t position, std::span<const int32_t> ids, float* logits,
                          edgekit_poll_fn poll, void* poll_context, edgekit_error* error) {
        const Package& package = driver_.package;
        std::vector<int32_t> again;
        if (package.has_convolutions()) {  // whose state knows no way back: from the beginning
            if (position < ids_.size()) {
                ids_.resize(position);
                std::swap(again, ids_);
                close();
                if (const edgekit_status status = open(error)) return status;
            }
            again.insert(again.end(), ids.begin(), ids.end());
            position -= again.size() - ids.size();
            ids = again;
        }
        while (!ids.empty()) {
            if (poll && poll(poll_context)) return EDGEKIT_CANCELLED;
            // Where no logits are wanted, as if another token followed.
            const auto [step, most] =
                package.next_step(position, ids.size() + (logits ? 0 : 1), [&](const std::string& function) {
                    const edgekit_package_runner& own = driver_.runner;
                    return !own.has || own.has(own.context, function.c_str());
                });
            const auto some = ids.first(std::min<size_t>(most, ids.size()));
            const Inputs inputs = package.inputs(step, position, some, embeddings_);
            const auto all = inputs.all();
            const bool last = some.size() == ids.size();
            const edgekit_status status =
                driver_.runner.run(driver_.runner.context, states_, step.name().c_str(), all.data(),
                                   all.size(), last ? logits : nullptr, error);
            if (status != EDGEKIT_OK) return status;
            const uint64_t capacity = uint64_t{package.facts().window} + package.facts().sinks;
            if (package.has_convolutions() && ids_.size() <= capacity)
                ids_.insert(ids_.end(), some.begin(), some.end());
            position += some.size();
            ids = ids.subspan(some.size());
        }
        return EDGEKIT_OK;
    }

private:
    void close() {
        if (states_) driver_.runner.close(driver_.runner.context, states_);
        states_ = nullptr;
    }

    Driver& driver_;
    Embeddings embeddings_;
    void* states_ = nullptr;
    std::vector<int32_t> ids_;  // of packages with convolutions, as long as tokens can be taken back
};

template <class Work>
edgekit_status guarded(edgekit_error* error, const Work& work) noexcept {
    edgekit_status status = EDGEKIT_INTERNAL;
    const char* message = "an unknown error";
    try {
        return work();
    } catch (const std::bad_alloc&) {
        status = EDGEKIT_OUT_OF_MEMORY;
        message = "the system refused an allocation";
        if (error) std::snprintf(error->message, sizeof error->message, "%s", message);
    } catch (const std::exception& e) {
        if (error) std::snprintf(error->message, sizeof error->message, "%s", e.what());
    } catch (...) {
        if (error) std::snprintf(error->message, sizeof error->message, "%s", message);
    }
    if (error) error->status = status;
    return status;
}

}  // namespace

extern "C" edgekit_status edgekit_package_companion(const edgekit_package_facts* facts,
                                                    const edgekit_package_runner* runner,
                                                    edgekit_companion* out, edgekit_error* error) {
    const edgekit_status status = guarded(error, [&] {
        auto driver = std::unique_ptr<Driver>(new Driver{Package(*facts), {}});
        driver->runner = *runner;
        *out = {};
        out->struct_size = sizeof *out;
        out->vocab_size = facts->vocab_size;
        out->window = facts->window;
        out->sinks = facts->sinks;
        out->state = [](void* context, edgekit_error* why) {
            const Driver& driver = *static_cast<Driver*>(context);
            const edgekit_companion_state state = driver.runner.state(driver.runner.context, why);
            const auto condition = driver.package.facts().condition;
            return state == EDGEKIT_COMPANION_READY && condition ? condition(why) : state;
        };
        out->open = [](void* context, void** text, edgekit_error* why) {
            return guarded(why, [&] {
                auto opened = std::make_unique<Text>(*static_cast<Driver*>(context));
                if (const edgekit_status failed = opened->open(why)) return failed;
                *text = opened.release();
                return EDGEKIT_OK;
            });
        };
        out->close = [](void*, void* text) { delete static_cast<Text*>(text); };
        out->append = [](void*, void* text, uint64_t position, const int32_t* ids, size_t count,
                         float* logits, edgekit_poll_fn poll, void* poll_context, edgekit_error* why) {
            return guarded(why, [&] {
                return static_cast<Text*>(text)->append(position, {ids, count}, logits, poll, poll_context,
                                                        why);
            });
        };
        out->release = [](void* context) { delete static_cast<Driver*>(context); };
        out->name = driver->package.name.c_str();
        out->context = driver.release();
        return EDGEKIT_OK;
    });
    if (status != EDGEKIT_OK && runner->release) runner->release(runner->context);
    return status;
}
