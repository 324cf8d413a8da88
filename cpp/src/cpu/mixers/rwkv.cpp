// RWKV-7's two layers, both of which mix what they read with what they read a token before: of time, with a
// state per head that fades channel by channel, and of channels. converters/spec.py, Rwkv.

#include <algorithm>
#include <cmath>

#include "cpu/mixers/mixers.h"
#include "cpu/mixers/texts.h"

namespace edgekit {

namespace {

constexpr int64_t kMaxHeads = 1024, kMaxHeadDim = 1024, kMaxRank = 1 << 16, kMaxWidth = 1 << 20;
constexpr float kFastest = -0.606531f;  // -exp(-1/2): a state's logarithm falls no faster
constexpr float kLeastLength = 1e-7f;   // of a key that is brought to length 1
constexpr uint32_t kInputs = 6;         // r, w, k, v, a, g: what time mixing reads
constexpr uint32_t kFieldsKept = 6;     // of the row in a cell
constexpr const char *kWhole[] = {"rwkv_r", "rwkv_k", "rwkv_v", "rwkv_o"},
                     *kDown[] = {"rwkv_w_down", "rwkv_a_down", "rwkv_g_down", "rwkv_u_down"},
                     *kUp[] = {"rwkv_w_up", "rwkv_a_up", "rwkv_g_up", "rwkv_u_up"},
                     *kVectors[] = {"rwkv_removed", "rwkv_replaced", "rwkv_bonus"};
enum Field : uint8_t { kX, kK, kV, kDecay, kRemoved, kReplaced, kRead, kGate, kShare, kFields };

void know_members(const json::Value& of) {
    know(of, "rwkv",
         {"n_heads", "head_dim", "decay_rank", "rate_rank", "value_rank", "gate_rank", "norm_eps", "d_ff"});
}

// A phase of a pass: units dealt to the threads, and a barrier. Not a template, which would be many times as
// large.
using Body = void (*)(const void* body, uint32_t first, uint32_t last);
void phase(Step& step, uint32_t n_units, const void* body, Body call) {
    step.for_units(n_units, [&](uint32_t first, uint32_t last) { call(body, first, last); });
    step.barrier();
}
template <class F>
void phase(Step& step, uint32_t n_units, const F& body) {
    phase(step, n_units, &body,
          [](const void* f, uint32_t first, uint32_t last) { (*static_cast<const F*>(f))(first, last); });
}

// What the row before read; nullptr before a text.
const float* before(const Text& text, const Activations& input, uint32_t i, const float* remembered) {
    if (i > 0) return input.x + (text.first + i - 1) * input.stride_x;
    if (text.row.position == 0) return nullptr;
    return text.row.states->replayed ? text.cell(text.row.position - 1) : remembered;
}

// out = x + (before - x) · share
void mix(const float* x, const float* before, const float* share, uint32_t n, float* out) {
    for (uint32_t i = 0; i < n; ++i) out[i] = x[i] + ((before ? before[i] : 0.0f) - x[i]) * share[i];
}

LayerRing ring_of(uint32_t cell_floats, size_t state_floats) {
    LayerRing ring;
    ring.local = true;
    ring.ring = ring.slots = kStateInputs;
    ring.key_bytes = round_up64(uint64_t{cell_floats} * sizeof(float));
    ring.state_bytes = round_up64(state_floats * sizeof(float));
    return ring;
}

// The last inputs into their cells, and the last of all into the states, whose floats before it are others'.
void remember(const Text& text, const float* rows, size_t stride, uint32_t cell, uint32_t d,
              size_t state_floats) {
    const StateStep& states = *text.row.states;
    const auto row = [&](uint32_t i) { return rows + (text.first + i) * stride; };
    const auto last = [&](uint32_t state, uint32_t end) {
        const float* x = end               ? row(end - 1)
                         : states.replayed ? text.cell(text.row.position - 1)
                                           : text.state(states.from) + state_floats;
        float* to = text.state(state) + state_floats;
        if (x != to) std::copy_n(x, d, to);
    };
    if (states.after) last(states.between, text.n - states.after);
    last(states.to, text.n);
    for (uint32_t i = text.n - std::min(text.n, kStateInputs); i < text.n; ++i)
        std::copy_n(row(i), cell, text.cell(text.row.position + i));
}

class Time final : public Mixer {
public:
    Time(const json::Value& of, const ModelSpec& spec)
        : d_(spec.d_model),
          n_heads_(count_at(of, "n_heads", 1, kMaxHeads)),
          head_dim_(count_at(of, "head_dim", 1, kMaxHeadDim)),
          ranks_{count_at(of, "decay_rank", 1, kMaxRank), count_at(of, "rate_rank", 1, kMaxRank),
                 count_at(of, "gate_rank", 1, kMaxRank), count_at(of, "value_rank", 0, kMaxRank)},
          norm_eps_(static_cast<float>(of.double_at("norm_eps"))) {
        know_members(of);
        const bool first = spec.layers.empty();
        if (first == (ranks_[3] > 0) ||
            (!first && !dynamic_cast<const Time*>(spec.layers.front().mixer.get())))
            throw Error(Status::invalid_file,
                        "of RWKV-7's layers the first, and no other, has values that are mixed with none");
        if (n_heads_ * head_dim_ != d_)
            throw Error(Status::invalid_file, std::to_string(n_heads_) + " heads of " +
                                                  std::to_string(head_dim_) + " are not the model's " +
                                                  std::to_string(d_) + " channels");
    }

    std::unique_ptr<const Mixer> bind(Binder& bind, const ModelSpec&,
                                      const std::string& prefix) const override {
        auto bound = std::make_unique<Time>(*this);
        for (uint32_t i = 0; i < 4; ++i) {
            bound->whole_[i] = bind.linear(prefix, kWhole[i], d_, d_);
            if (!ranks_[i]) continue;
            bound->down_[i] = bind.linear(prefix, kDown[i], ranks_[i], d_);
            bound->up_[i] = bind.linear(prefix, kUp[i], d_, ranks_[i]);
        }
        bound->mix_ = bind.vector(prefix, "rwkv_mix", kInputs * d_, true);
        const float** vectors[] = {&bound->removed_, &bound->replaced_, &bound->bonus_};
        for (uint32_t i = 0; i < 3; ++i) *vectors[i] = bind.vector(prefix, kVectors[i], d_, true);
        bound->norm_ = bind.norm(prefix, "rwkv_norm", d_, true);
        return bound;
    }
    // A cell: what a row read, and what it brings to the states. A state: those of the heads [key][value],
    // then what the last row read.
    LayerRing ring(const CacheOptions&) const override {
        return ring_of(kFieldsKept * d_, state_floats() + d_);
    }
    uint32_t width() const override { return d_; }
    const Linear& out() const override { return whole_[3]; }
    Bytes bytes(const WorkspaceShape& shape) const override {
        Arena arena;
        take(shape, arena);
        return {arena.used(), 0};
    }
    void run(Step& step, uint32_t layer, const Activations& input, float* out) const override;

private:
    struct Shared {
        float* first;                 // [rows][d] the first layer's values; others leave them alone
        PreparedRows mixed[kInputs];  // [rows][d]
        PreparedRows low[4];          // [rows][rank]
        float* rows;                  // [rows][kFields][d]
        float* heads;                 // [n_heads][2][head_dim] scratch
    };
    Shared take(const WorkspaceShape& shape, Arena& arena) const {
        Shared shared;
        shared.first = arena.take<float>(size_t{shape.rows} * d_);
        for (PreparedRows& mixed : shared.mixed) mixed = take_prepared(arena, shape.rows, d_, true);
        for (uint32_t i = 0; i < 4; ++i) shared.low[i] = take_prepared(arena, shape.rows, ranks_[i], true);
        shared.rows = arena.take<float>(size_t{shape.rows} * kFields * d_);
        shared.heads = arena.take<float>(size_t{2} * d_);
        return shared;
    }
    size_t head_floats() const { return size_t{head_dim_} * head_dim_; }
    size_t state_floats() const { return n_heads_ * head_floats(); }
    void complete(float* row, float* first, uint32_t head) const;
    void take_in(const float* row, uint32_t head, float* state, float* known) const;
    void finish(const Step& step, const float* row, uint32_t head, const float* y, float* out) const;

    uint32_t d_, n_heads_, head_dim_;
    uint32_t ranks_[4];  // of decays, rates, gates and values; no values in the first layer
    float norm_eps_;
    Linear whole_[4];                                                          // r, k, v, o
    Linear down_[4], up_[4];                                                   // as ranks_
    const float* mix_ = nullptr;                                               // [kInputs][d]
    const float *removed_ = nullptr, *replaced_ = nullptr, *bonus_ = nullptr;  // [d]
    NormWeights norm_;                                                         // [d]
};

// A head's keys, values, decays and rates of a row, of what was projected.
void Time::complete(float* row, float* first, uint32_t head) const {
    const auto field = [&](Field f) { return row + size_t{f} * d_; };
    float length = 0;
    for (uint32_t c = head * head_dim_; c < (head + 1) * head_dim_; ++c) {
        field(kDecay)[c] = std::exp(kFastest * sigmoid(field(kDecay)[c]));
        float& v = field(kV)[c];
        if (ranks_[3])
            v += (first[c] - v) * sigmoid(field(kShare)[c]);
        else
            first[c] = v;
        const float removed = field(kRemoved)[c] = field(kK)[c] * removed_[c];
        length += removed * removed;
    }
    const float unit = 1.0f / std::max(std::sqrt(length), kLeastLength);
    for (uint32_t c = head * head_dim_; c < (head + 1) * head_dim_; ++c) {
        const float rate = sigmoid(field(kReplaced)[c]);
        field(kRemoved)[c] *= unit;
        field(kReplaced)[c] = field(kRemoved)[c] * rate;
        field(kK)[c] *= 1.0f + (rate - 1.0f) * replaced_[c];
    }
}

// S = decay · S + k ⊗ v - replaced ⊗ (removedᵀ · S); known [head_dim] is scratch.
void Time::take_in(const float* row, uint32_t head, float* state, float* known) const {
    const uint32_t n = head_dim_, at = head * n;
    const auto field = [&](Field f) { return row + size_t{f} * d_ + at; };
    std::fill_n(known, n, 0.0f);
    for (uint32_t i = 0; i < n; ++i)
        for (uint32_t j = 0; j < n; ++j) known[j] += field(kRemoved)[i] * state[size_t{i} * n + j];
    for (uint32_t i = 0; i < n; ++i) {
        const float decay = field(kDecay)[i], k = field(kK)[i], replaced = field(kReplaced)[i];
        float* s = state + size_t{i} * n;
        for (uint32_t j = 0; j < n; ++j) s[j] = decay * s[j] + (k * field(kV)[j] - replaced * known[j]);
    }
}

void Time::finish(const Step& step, const float* row, uint32_t head, const float* y, float* out) const {
    const uint32_t n = head_dim_, at = head * n;
    const auto field = [&](Field f) { return row + size_t{f} * d_ + at; };
    step.kernels.layer_norm(y, norm_.weight + at, norm_.bias ? norm_.bias + at : nullptr, n, norm_eps_,
                            out + at);
    float bonus = 0;
    for (uint32_t i = 0; i < n; ++i) bonus += field(kRead)[i] * field(kK)[i] * bonus_[at + i];
    for (uint32_t i = 0; i < n; ++i) out[at + i] = (out[at + i] + bonus * field(kV)[i]) * field(kGate)[i];
}

void Time::run(Step& step, uint32_t layer, const Activations& input, float* out) const {
    Arena arena(step.memory.mixer);
    const Shared shared = take(step.memory.shape, arena);
    const uint32_t m = step.rows().n;
    const size_t stride = size_t{kFields} * d_;
    const auto row = [&](uint32_t i) { return shared.rows + i * stride; };
    const auto quantize = [&](const PreparedRows& of, uint32_t width, uint32_t i) {
        const size_t group = size_t{i} * row_groups(width);
        step.kernels.quantize(of.x + size_t{i} * width, width, 1, width, of.codes + group * kGroup,
                              of.groups + group);
    };
    const auto read = [&](const PreparedRows& of, uint32_t width) {
        return Activations{of.x, width, of.codes, of.groups, m};
    };
    phase(step, m, [&](uint32_t first, uint32_t last) {
        for_texts(step, layer, [&](const Text& text) {
            const float* remembered = text.state(text.row.states->from) + state_floats();
            for (uint32_t i = 0; i < text.n; ++i) {
                const uint32_t place = text.first + i;
                if (place < first || place >= last) continue;
                const float* x = input.x + place * input.stride_x;
                const float* past = before(text, input, i, remembered);
                std::copy_n(x, d_, row(place));
                for (uint32_t kind = 0; kind < kInputs; ++kind) {
                    mix(x, past, mix_ + size_t{kind} * d_, d_, shared.mixed[kind].x + size_t{place} * d_);
                    quantize(shared.mixed[kind], d_, place);
                }
            }
        });
    });
    Activations mixed[kInputs], low[4];
    for (uint32_t i = 0; i < kInputs; ++i) mixed[i] = read(shared.mixed[i], d_);
    for (uint32_t i = 0; i < 4; ++i) low[i] = read(shared.low[i], ranks_[i]);
    const auto to = [&](Field field) { return Store{.out = row(0) + size_t{field} * d_, .stride = stride}; };
    const auto to_low = [&](uint32_t i) { return Store{.out = shared.low[i].x, .stride = ranks_[i]}; };
    step.project({{whole_[0], mixed[0], to(kRead)},
                  {whole_[1], mixed[2], to(kK)},
                  {whole_[2], mixed[3], to(kV)},
                  {down_[0], mixed[1], to_low(0)},
                  {down_[1], mixed[4], to_low(1)},
                  {down_[2], mixed[5], to_low(2)},
                  {down_[3], mixed[3], to_low(3)}});
    step.barrier();
    phase(step, m, [&](uint32_t first, uint32_t last) {
        for (uint32_t i = first; i < last; ++i) {
            float* decays = shared.low[0].x + size_t{i} * ranks_[0];
            float* gates = shared.low[2].x + size_t{i} * ranks_[2];
            for (uint32_t c = 0; c < ranks_[0]; ++c) decays[c] = std::tanh(decays[c]);
            for (uint32_t c = 0; c < ranks_[2]; ++c) gates[c] = sigmoid(gates[c]);
            for (uint32_t kind = 0; kind < 4; ++kind)
                if (ranks_[kind]) quantize(shared.low[kind], ranks_[kind], i);
        }
    });
    step.project({{up_[0], low[0], to(kDecay)},
                  {up_[1], low[1], to(kReplaced)},
                  {up_[2], low[2], to(kGate)},
                  {up_[3], low[3], to(kShare)}});
    step.barrier();
    phase(step, n_heads_, [&](uint32_t begin, uint32_t end) {
        for (uint32_t head = begin; head < end; ++head)
            for_texts(step, layer, [&](const Text& text) {
                const StateStep& states = *text.row.states;
                const size_t place = head * head_floats();
                float* state = text.state(states.to) + place;
                float* y = shared.heads + size_t{2} * head * head_dim_;
                float* known = y + head_dim_;
                if (text.since() == 0)
                    std::fill_n(state, head_floats(), 0.0f);
                else if (states.from != states.to)
                    std::copy_n(text.state(states.from) + place, head_floats(), state);
                for (uint64_t at = text.since(); at < text.row.position; ++at)
                    take_in(text.cell(at), head, state, known);
                for (uint32_t i = 0; i < text.n; ++i) {
                    if (states.after && i == text.n - states.after)
                        std::copy_n(state, head_floats(), text.state(states.between) + place);
                    float* now = row(text.first + i);
                    complete(now, shared.first + size_t{text.first + i} * d_, head);
                    take_in(now, head, state, known);
                    if (i < text.n - text.kept) continue;
                    std::fill_n(y, head_dim_, 0.0f);
                    const float* asked = now + size_t{kRead} * d_ + head * head_dim_;
                    for (uint32_t key = 0; key < head_dim_; ++key)
                        step.kernels.add(y, state + size_t{key} * head_dim_, asked[key], head_dim_);
                    finish(step, now, head, y, out + size_t{text.out + i - (text.n - text.kept)} * d_);
                }
            });
    });
    phase(step, 1, [&](uint32_t, uint32_t) {
        for_texts(step, layer, [&](const Text& text) {
            remember(text, shared.rows, stride, kFieldsKept * d_, d_, state_floats());
        });
    });
}

class Channels final : public Mixer {
public:
    Channels(const json::Value& of, const ModelSpec& spec)
        : d_(spec.d_model), width_(count_at(of, "d_ff", 1, kMaxWidth)) {
        know_members(of);
    }

    std::unique_ptr<const Mixer> bind(Binder& bind, const ModelSpec&,
                                      const std::string& prefix) const override {
        auto bound = std::make_unique<Channels>(*this);
        bound->mix_ = bind.vector(prefix, "rwkv_mix", d_, true);
        bound->up_ = bind.linear(prefix, "rwkv_up", width_, d_);
        bound->down_ = bind.linear(prefix, "rwkv_down", d_, width_);
        return bound;
    }
    // A cell, and a state: what a row read.
    LayerRing ring(const CacheOptions&) const override { return ring_of(d_, d_); }
    uint32_t width() const override { return width_; }
    const Linear& out() const override { return down_; }
    Bytes bytes(const WorkspaceShape& shape) const override {
        Arena arena;
        take(shape, arena);
        return {arena.used(), 0};
    }
    void run(Step& step, uint32_t layer, const Activations& input, float* out) const override {
        Arena arena(step.memory.mixer);
        const Shared shared = take(step.memory.shape, arena);
        const Rows& kept = step.kept(layer);
        const uint32_t groups = row_groups(d_);
        phase(step, kept.n, [&](uint32_t first, uint32_t last) {
            for_texts(step, layer, [&](const Text& text) {
                const float* remembered = text.state(text.row.states->from);
                for (uint32_t i = text.n - text.kept; i < text.n; ++i) {
                    const uint32_t to = text.out + i - (text.n - text.kept);
                    if (to < first || to >= last) continue;
                    float* x = shared.mixed.x + size_t{to} * d_;
                    mix(input.x + (text.first + i) * input.stride_x, before(text, input, i, remembered), mix_,
                        d_, x);
                    step.kernels.quantize(x, d_, 1, d_, shared.mixed.codes + size_t{to} * groups * kGroup,
                                          shared.mixed.groups + size_t{to} * groups);
                }
            });
        });
        const Activations mixed{shared.mixed.x, d_, shared.mixed.codes, shared.mixed.groups, kept.n};
        step.project({{up_, mixed, {.out = out, .stride = width_}}});
        step.barrier();
        phase(step, kept.n + 1, [&](uint32_t first, uint32_t last) {
            float* y = out + size_t{first} * width_;
            step.kernels.activate(Activation::relu2, y, nullptr, y,
                                  size_t{std::min(last, kept.n) - first} * width_);
            if (last <= kept.n) return;
            for_texts(step, layer,
                      [&](const Text& text) { remember(text, input.x, input.stride_x, d_, d_, 0); });
        });
    }

private:
    struct Shared {
        float* first;        // the first layer's values, which time mixing keeps there
        PreparedRows mixed;  // [rows][d]
    };
    Shared take(const WorkspaceShape& shape, Arena& arena) const {
        float* first = arena.take<float>(size_t{shape.rows} * d_);
        return {first, take_prepared(arena, shape.rows, d_, true)};
    }

    uint32_t d_, width_;
    Linear up_, down_;            // [d_ff, d], [d, d_ff]
    const float* mix_ = nullptr;  // [d]
};

template <class Kind>
std::unique_ptr<const Mixer> parse(const json::Value& layer, const ModelSpec& spec) {
    return std::make_unique<Kind>(layer.at("rwkv"), spec);
}

}  // namespace

const MixerKind kRwkvTime{"rwkv_time", parse<Time>};
const MixerKind kRwkvChannels{"rwkv_channels", parse<Channels>};

}  // namespace edgekit
