// A state per head in place of a cache (gated delta nets, Mamba-2): converters/spec.py, Recurrence. What its
// rows bring is projected and convolved for all of them at once; then each head takes them into its state one
// after another, so that a row gives the same in any company.

#include <algorithm>
#include <cmath>

#include "cpu/mixers/mixers.h"
#include "cpu/mixers/texts.h"
#include "error.h"

namespace edgekit {

namespace {

constexpr int64_t kMaxHeads = 1024, kMaxHeadDim = 1024, kMaxKernel = 64;
constexpr uint32_t kColumns = 16;      // of a state, taken together
constexpr float kUnitEpsilon = 1e-6f;  // under the root of what brings queries and keys to length 1

enum class StateNorm : uint8_t { none, head, group };

StateNorm state_norm(const std::string& word) {
    if (word == "none") return StateNorm::none;
    if (word == "head") return StateNorm::head;
    if (word == "group") return StateNorm::group;
    throw Error(Status::unsupported,
                "a recurrent layer's norm is '" + word + "', which this version of edgekit does not know");
}

float softplus(float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(x))); }

class Recurrent final : public Mixer {
public:
    explicit Recurrent(const json::Value& of);
    std::unique_ptr<const Mixer> bind(Binder& bind, const ModelSpec& spec,
                                      const std::string& prefix) const override;
    LayerRing ring(const CacheOptions& options) const override;
    uint32_t width() const override { return values_; }
    const Linear& out() const override { return o_; }
    Bytes bytes(const WorkspaceShape& shape) const override;
    void run(Step& step, uint32_t layer, const Activations& input, float* out) const override;

private:
    // Queries, keys and values: what the convolution takes, [channels].
    uint32_t channels() const { return 2 * keys_ + values_; }
    // Those, steps and betas: a cell of the ring.
    uint32_t cell() const { return channels() + (delta_ ? 2 : 1) * n_heads_; }
    // Those and the output's gate: a projected row.
    uint32_t row() const { return cell() + values_; }
    uint32_t key_head(uint32_t head) const { return head / (n_heads_ / n_key_heads_); }
    uint32_t tiles() const { return (value_dim_ + kColumns - 1) / kColumns; }
    size_t tile_floats() const { return size_t{key_dim_} * kColumns; }
    size_t head_floats() const { return tile_floats() * tiles(); }
    uint32_t remembered() const { return kernel_ ? kernel_ - 1 : 0; }

    // What the threads share in a pass.
    struct Shared {
        float* projected;  // [rows][row()]
        float* convolved;  // [rows][channels()]
    };
    Shared take_shared(const WorkspaceShape& shape, Arena& arena) const;
    // What one thread needs for itself.
    struct Own {
        float* taps;      // [kernel][a head's channels]
        float* replayed;  // [kStateInputs] a head's key and value
        float* decay;     // [kStateInputs + rows]
        float* weight;
    };
    Own take_own(const WorkspaceShape& shape, Arena& arena) const;
    struct Pass;

    uint32_t n_heads_, n_key_heads_, key_dim_, value_dim_, kernel_;
    uint32_t keys_, values_;  // of all heads
    bool delta_, unit_keys_, gate_first_;
    float q_scale_, beta_scale_, dt_min_, norm_eps_;
    StateNorm norm_;
    Linear q_, k_, v_, z_, dt_, beta_, o_;
    const float* taps_[3] = {};       // [channels of q, k, v][kernel]
    const float* taps_bias_[3] = {};  // or nullptr
    const float* a_ = nullptr;        // [n_heads]
    const float* d_ = nullptr;        // [n_heads] or nullptr
    const float* scale_ = nullptr;    // [value_dim] or [values]
};

Recurrent::Recurrent(const json::Value& of)
    : n_heads_(count_at(of, "n_heads", 1, kMaxHeads)),
      n_key_heads_(count_at(of, "n_key_heads", 1, kMaxHeads)),
      key_dim_(count_at(of, "key_dim", 1, kMaxHeadDim)),
      value_dim_(count_at(of, "value_dim", 1, kMaxHeadDim)),
      kernel_(count_at(of, "kernel", 0, kMaxKernel)),
      keys_(n_key_heads_ * key_dim_),
      values_(n_heads_ * value_dim_),
      delta_(of.bool_at("delta")),
      unit_keys_(of.bool_at("unit_keys")),
      gate_first_(of.bool_at("gate_first")),
      q_scale_(static_cast<float>(of.double_at("q_scale"))),
      beta_scale_(static_cast<float>(of.double_at("beta_scale"))),
      dt_min_(static_cast<float>(of.double_at("dt_min"))),
      norm_eps_(static_cast<float>(of.double_at("norm_eps"))),
      norm_(state_norm(of.string_at("norm"))) {
    know(of, "recurrence",
         {"n_heads", "n_key_heads", "key_dim", "value_dim", "kernel", "delta", "unit_keys", "q_scale",
          "beta_scale", "dt_min", "norm", "norm_eps", "gate_first"});
    if (n_heads_ % n_key_heads_)
        throw Error(Status::invalid_file, std::to_string(n_heads_) + " heads cannot share " +
                                              std::to_string(n_key_heads_) + " key heads evenly");
}

std::unique_ptr<const Mixer> Recurrent::bind(Binder& bind, const ModelSpec& spec,
                                             const std::string& prefix) const {
    auto bound = std::make_unique<Recurrent>(*this);
    const auto linear = [&](const char* name, uint32_t n) {
        return bind.linear(prefix, name, n, spec.d_model);
    };
    bound->q_ = linear("state_q", keys_);
    bound->k_ = linear("state_k", keys_);
    bound->v_ = linear("state_v", values_);
    bound->z_ = linear("state_z", values_);
    bound->dt_ = linear("state_dt", n_heads_);
    if (delta_) bound->beta_ = linear("state_beta", n_heads_);
    bound->o_ = bind.linear(prefix, "state_o", spec.d_model, values_);
    for (uint32_t part = 0; kernel_ && part < 3; ++part) {
        const std::string name = prefix + "taps_" + "qkv"[part];
        const uint32_t n = part < 2 ? keys_ : values_;
        bound->taps_[part] = bind.vector(name, n * kernel_, true);
        bound->taps_bias_[part] = bind.vector(name + "_bias", n, false);
    }
    bound->a_ = bind.vector(prefix, "state_a", n_heads_, true);
    bound->d_ = bind.vector(prefix, "state_d", n_heads_, false);
    if (norm_ != StateNorm::none)
        bound->scale_ =
            bind.vector(prefix, "state_scale", norm_ == StateNorm::head ? value_dim_ : values_, true);
    return bound;
}

// A cell: what a row brings to the states. A state: those of the heads in tiles of columns [key_dim][16],
// then the convolution's last inputs [channels], the one of position p at p % (kernel - 1).
LayerRing Recurrent::ring(const CacheOptions&) const {
    LayerRing ring;
    ring.local = true;
    ring.ring = ring.slots = kStateInputs;
    ring.key_bytes = round_up64(uint64_t{cell()} * sizeof(float));
    ring.state_bytes =
        round_up64((n_heads_ * head_floats() + size_t{remembered()} * channels()) * sizeof(float));
    return ring;
}

Mixer::Bytes Recurrent::bytes(const WorkspaceShape& shape) const {
    Arena shared, own;
    take_shared(shape, shared);
    take_own(shape, own);
    return {shared.used(), own.used()};
}

Recurrent::Shared Recurrent::take_shared(const WorkspaceShape& shape, Arena& arena) const {
    return {arena.take<float>(size_t{shape.rows} * row()),
            arena.take<float>(size_t{shape.rows} * channels())};
}

Recurrent::Own Recurrent::take_own(const WorkspaceShape& shape, Arena& arena) const {
    const size_t most = size_t{kStateInputs} + shape.rows;
    return {arena.take<float>(size_t{kernel_} * std::max(key_dim_, value_dim_)),
            arena.take<float>(size_t{kStateInputs} * (key_dim_ + value_dim_)), arena.take<float>(most),
            arena.take<float>(most)};
}

// One layer of one thread's pass.
struct Recurrent::Pass {
    const Recurrent& r;
    Step& step;
    const uint32_t layer;
    const Shared shared;
    const Own own;
    float* out;

    template <class F>
    void for_texts(F&& f) const {
        edgekit::for_texts(step, layer, f);
    }

    float* projected(uint32_t row) const { return shared.projected + size_t{row} * r.row(); }
    float* convolved(uint32_t row) const { return shared.convolved + size_t{row} * r.channels(); }
    float* memory(float* state, uint64_t position) const {
        const uint64_t slots = std::max(1u, r.remembered());  // 0 without a convolution, which asks for none
        return state + r.n_heads_ * r.head_floats() + position % slots * r.channels();
    }
    const float* inputs(const Text& text, uint64_t position) const;
    void convolve(const Text& text, uint32_t part, uint32_t head, uint64_t position, uint32_t n, float* to,
                  size_t stride) const;
    void rates(uint32_t head, const float* inputs, uint32_t index) const;
    void scan(const Text& text, uint32_t head) const;
    void finish(const Row& row, float* y) const;
    void remember(const Text& text) const;
    void remember(const Text& text, uint32_t state, uint64_t position) const;
};

// What the row at a position of the text brought: one of the pass's, or as it is remembered.
const float* Recurrent::Pass::inputs(const Text& text, uint64_t position) const {
    if (position >= text.row.position)
        return projected(text.first + static_cast<uint32_t>(position - text.row.position));
    if (position >= text.since()) return text.cell(position);
    return memory(text.state(text.row.states->from), position);
}

// A head's query (part 0), key (1) or value (2) of n rows from a position on.
void Recurrent::Pass::convolve(const Text& text, uint32_t part, uint32_t head, uint64_t position, uint32_t n,
                               float* to, size_t stride) const {
    const uint32_t dim = part < 2 ? r.key_dim_ : r.value_dim_, channel = head * dim;
    const uint32_t column = part * r.keys_ + channel;
    for (uint32_t tap = 0; tap < r.kernel_; ++tap)
        for (uint32_t c = 0; c < dim; ++c)
            own.taps[tap * dim + c] = r.taps_[part][size_t{channel + c} * r.kernel_ + r.kernel_ - 1 - tap];
    const float* bias = r.taps_bias_[part];
    const float scale = (part == 0 ? r.q_scale_ : 1.0f) *
                        (r.unit_keys_ && part < 2 ? 1.0f / std::sqrt(static_cast<float>(dim)) : 1.0f);
    for (uint32_t row = 0; row < n; ++row, to += stride) {
        if (r.kernel_) {
            for (uint32_t c = 0; c < dim; ++c) to[c] = bias ? bias[channel + c] : 0.0f;
            for (uint32_t tap = 0; tap < r.kernel_ && tap <= position + row; ++tap) {
                const float* x = inputs(text, position + row - tap) + column;
                const float* taps = own.taps + size_t{tap} * dim;
                for (uint32_t c = 0; c < dim; ++c) to[c] += taps[c] * x[c];
            }
            step.kernels.activate(Activation::silu, to, nullptr, to, dim);
        } else {
            std::copy_n(inputs(text, position + row) + column, dim, to);
        }
        if (r.unit_keys_ && part < 2)
            step.kernels.rms_norm(to, nullptr, dim, kUnitEpsilon / static_cast<float>(dim), to);
        if (scale != 1.0f)
            for (uint32_t c = 0; c < dim; ++c) to[c] *= scale;
    }
}

// How fast a head's state fades at a row, and how much of the row it takes.
void Recurrent::Pass::rates(uint32_t head, const float* inputs, uint32_t index) const {
    const float* steps = inputs + r.channels();
    const float dt = std::max(softplus(steps[head]), r.dt_min_);
    own.decay[index] = std::exp(-std::exp(r.a_[head]) * dt);
    own.weight[index] = r.delta_ ? r.beta_scale_ * sigmoid(steps[r.n_heads_ + head]) : dt;
}

// The text's rows into a head's state.
void Recurrent::Pass::scan(const Text& text, uint32_t head) const {
    const StateStep& states = *text.row.states;
    const uint32_t key_head = r.key_head(head), pair = r.key_dim_ + r.value_dim_;
    const uint64_t since = text.since();
    for (uint32_t i = 0; i < states.replayed + text.n; ++i) rates(head, inputs(text, since + i), i);
    if (states.replayed) {
        convolve(text, 1, key_head, since, states.replayed, own.replayed, pair);
        convolve(text, 2, head, since, states.replayed, own.replayed + r.key_dim_, pair);
    }
    const uint32_t silent = text.n - text.kept, between = text.n - states.after;
    for (uint32_t tile = 0; tile < r.tiles(); ++tile) {
        const size_t place = head * r.head_floats() + tile * r.tile_floats();
        const uint32_t column = tile * kColumns;
        float* state = text.state(states.to) + place;
        if (since == 0)
            std::fill_n(state, r.tile_floats(), 0.0f);
        else if (states.from != states.to)
            std::copy_n(text.state(states.from) + place, r.tile_floats(), state);
        ScanArgs args{.state = state,
                      .key_dim = r.key_dim_,
                      .columns = std::min(kColumns, r.value_dim_ - column),
                      .rows = states.replayed,
                      .delta = r.delta_,
                      .q = own.replayed,
                      .k = own.replayed,
                      .v = own.replayed + r.key_dim_ + column,
                      .stride = pair,
                      .decay = own.decay,
                      .weight = own.weight};
        if (args.rows) step.kernels.scan(args);
        args.stride = r.channels();
        args.out_stride = r.values_;
        for (uint32_t begin = 0, end; begin < text.n; begin = end) {
            if (states.after && begin == between)
                std::copy_n(state, r.tile_floats(), text.state(states.between) + place);
            end = text.n;
            for (const uint32_t cut : {silent, between})
                if (begin < cut) end = std::min(end, cut);
            const float* of_row = convolved(text.first + begin);
            args.q = of_row + size_t{key_head} * r.key_dim_;
            args.k = args.q + r.keys_;
            args.v = of_row + 2 * r.keys_ + size_t{head} * r.value_dim_ + column;
            args.decay = own.decay + states.replayed + begin;
            args.weight = own.weight + states.replayed + begin;
            args.rows = end - begin;
            args.out = begin < silent ? nullptr
                                      : out + size_t{text.out + begin - silent} * r.values_ +
                                            size_t{head} * r.value_dim_ + column;
            step.kernels.scan(args);
        }
    }
}

// Of what the heads give for a row: the values added, the gate, the norm.
void Recurrent::Pass::finish(const Row& row, float* y) const {
    const float* v = convolved(row.place) + 2 * size_t{r.keys_};
    const float* z = projected(row.place) + r.cell();
    for (uint32_t head = 0; r.d_ && head < r.n_heads_; ++head) {
        const size_t first = size_t{head} * r.value_dim_;
        step.kernels.add(y + first, v + first, r.d_[head], r.value_dim_);
    }
    const auto gate = [&] { step.kernels.activate(Activation::silu, z, y, y, r.values_); };
    if (r.gate_first_) gate();
    const bool shared_scale = r.norm_ == StateNorm::head;
    const uint32_t size = shared_scale ? r.value_dim_ : r.values_ / r.n_key_heads_;
    for (uint32_t first = 0; r.norm_ != StateNorm::none && first < r.values_; first += size)
        step.kernels.rms_norm(y + first, r.scale_ + (shared_scale ? 0 : first), size, r.norm_eps_, y + first);
    if (!r.gate_first_) gate();
}

void Recurrent::Pass::remember(const Text& text) const {
    const StateStep& states = *text.row.states;
    const uint64_t end = text.row.position + text.n;
    for (uint64_t position = end - std::min(text.n, kStateInputs); position < end; ++position)
        std::copy_n(inputs(text, position), r.cell(), text.cell(position));
    if (!r.remembered()) return;
    if (states.after) remember(text, states.between, end - states.after);
    remember(text, states.to, end);
}

void Recurrent::Pass::remember(const Text& text, uint32_t state, uint64_t position) const {
    for (uint64_t at = position - std::min<uint64_t>(position, r.remembered()); at < position; ++at) {
        const float* from = inputs(text, at);
        float* to = memory(text.state(state), at);
        if (from != to) std::copy_n(from, r.channels(), to);
    }
}

void Recurrent::run(Step& step, uint32_t layer, const Activations& input, float* out) const {
    const Rows& kept = step.kept(layer);
    Arena shared(step.memory.mixer), own(step.scratch.mixer);
    const Pass pass{
        *this, step, layer, take_shared(step.memory.shape, shared), take_own(step.memory.shape, own), out};
    // The gate of all rows from the first that goes on to the last.
    const uint32_t first_gate = kept.n ? kept.row[0].place : 0;
    const Activations gated = rows_of(input, step.spec.d_model, first_gate,
                                      kept.n ? kept.row[kept.n - 1].place + 1 - first_gate : 0);
    const auto to = [&](uint32_t column, uint32_t row_index = 0) {
        return Store{.out = pass.projected(row_index) + column, .stride = row()};
    };
    const uint32_t steps = channels();
    step.project({{q_, input, to(0)},
                  {k_, input, to(keys_)},
                  {v_, input, to(2 * keys_)},
                  {dt_, input, to(steps)},
                  {beta_, input, to(steps + n_heads_)},
                  {z_, gated, to(cell(), first_gate)}});
    step.barrier();
    step.for_units(2 * n_key_heads_ + n_heads_, [&](uint32_t first, uint32_t last) {
        for (uint32_t unit = first; unit < last; ++unit) {
            const uint32_t part = std::min(unit / n_key_heads_, 2u), head = unit - part * n_key_heads_;
            const size_t column = part * size_t{keys_} + size_t{head} * (part < 2 ? key_dim_ : value_dim_);
            pass.for_texts([&](const Text& text) {
                pass.convolve(text, part, head, text.row.position, text.n,
                              pass.convolved(text.first) + column, channels());
            });
        }
    });
    step.barrier();
    step.for_units(n_heads_, [&](uint32_t first, uint32_t last) {
        for (uint32_t head = first; head < last; ++head)
            pass.for_texts([&](const Text& text) { pass.scan(text, head); });
    });
    step.barrier();
    step.for_units(kept.n + 1, [&](uint32_t first, uint32_t last) {
        for (uint32_t i = first; i < std::min(last, kept.n); ++i)
            pass.finish(kept.row[i], out + size_t{i} * values_);
        if (last > kept.n) pass.for_texts([&](const Text& text) { pass.remember(text); });
    });
    step.barrier();
}

std::unique_ptr<const Mixer> parse(const json::Value& layer, const ModelSpec&) {
    return std::make_unique<Recurrent>(layer.at("recurrence"));
}

}  // namespace

const MixerKind kRecurrent{"recurrent", parse};

}  // namespace edgekit
