// Attention: projections, cache, softmax over the ring.

#include "cpu/mixers/attention.h"

#include <algorithm>
#include <limits>
#include <new>

#include "cpu/mixers/mixers.h"
#include "cpu/step.h"
#include "error.h"

namespace edgekit {

namespace {

constexpr int64_t kMaxHeads = 1024;

// Pieces are what threads share a head's keys by: long enough that joining them costs nothing, and of the
// same length whatever the number of threads, so that results are the same too.
constexpr uint32_t kPieceSlots = 512, kMaxPieces = 16;

uint32_t piece_slots(uint32_t slots) {
    return std::max(kPieceSlots, round_up((slots + kMaxPieces - 1) / kMaxPieces, 64));
}

uint32_t pieces(uint32_t slots, uint32_t used) {
    const uint32_t piece = piece_slots(slots);
    return (used + piece - 1) / piece;
}

AttendState take_state(Arena& arena, uint32_t n, uint32_t head_dim) {
    return {arena.take<float>(n), arena.take<float>(n), arena.take<float>(size_t{n} * head_dim)};
}

void clear(const AttendState& state, uint32_t n, uint32_t head_dim) {
    std::fill_n(state.max, n, -std::numeric_limits<float>::infinity());
    std::fill_n(state.sum, n, 0.0f);
    std::fill_n(state.acc, size_t{n} * head_dim, 0.0f);
}

AttendState from(const AttendState& state, size_t query, uint32_t head_dim) {
    return {state.max + query, state.sum + query, state.acc + query * head_dim};
}

}  // namespace

// What one thread needs for itself, for the queries of a block that are one share.
struct RingAttention::Own {
    float* head;  // one head, or a whole normalised q or k row
    float* q;     // [queries][head_dim]
    std::byte* prepared;
    uint32_t* begin;  // [queries]
    uint32_t* end;
    AttendState state;  // [queries]
    AttendState piece;  // of those, what one piece of the ring gives
    std::byte* scratch;
};

RingAttention::RingAttention(const json::Value& layer, const ModelSpec& spec)
    : n_heads_(count_at(layer, "n_heads", 1, kMaxHeads)),
      n_kv_heads_(count_at(layer, "n_kv_heads", 1, kMaxHeads)),
      head_dim_(count_at(layer, "head_dim", 1, kv::kMaxHeadDim)),
      shares_(n_kv_heads_) {
    if (n_heads_ % n_kv_heads_)
        throw Error(Status::invalid_file, std::to_string(n_heads_) + " heads cannot share " +
                                              std::to_string(n_kv_heads_) + " key/value heads evenly");
    if (const json::Value* rope = layer.find("rope")) {
        rope_ = static_cast<int32_t>(rope->as_int_in(0, static_cast<int64_t>(spec.ropes.size()) - 1, "rope"));
        if (spec.ropes[rope_].dim > head_dim_)
            throw Error(Status::invalid_file, "a rotary dimension is larger than the head");
    }
    if (layer.find("window")) window_ = count_at(layer, "window", 1, int64_t{1} << 31);
    own_cells_ = !layer.find("kv_layer");
    if (const json::Value* same = layer.find("k_eq_v")) k_eq_v_ = same->as_bool("k_eq_v");
}

LayerRing RingAttention::ring(const CacheOptions& options) const {
    LayerRing ring;
    ring.local = window_ && window_ <= options.window;
    ring.sinks = ring.local ? 0 : options.sinks;
    ring.window = ring.local ? window_ : options.window;
    ring.heads = n_kv_heads_;
    ring.block = kTileRows;
    ring.key_bytes = kv::k_tile_bytes(options.type, head_dim_);
    ring.value_bytes = kv::v_tile_bytes(options.type, head_dim_);
    ring.slots = round_up(ring.sinks + ring.window + options.chunk - 1, ring.block);
    ring.ring = ring.slots - ring.sinks;
    return ring;
}

Mixer::Bytes RingAttention::bytes(const WorkspaceShape& shape) const {
    Arena shared, own;
    take_shared(shape, shared);
    take_own(shape, own);
    return {shared.used(), own.used()};
}

RingAttention::Shared RingAttention::take_shared(const WorkspaceShape& shape, Arena& arena) const {
    // No ring of at most so many slots has more pieces.
    const uint32_t most = std::min(kMaxPieces, pieces(0, shape.slots));
    return {arena.take<float>(size_t{shape.rows} * q_size()),
            arena.take<float>(size_t{shape.rows} * kv_size()),
            arena.take<float>(size_t{shape.rows} * kv_size()),
            arena.take<float>(size_t{shape.rows} * gate_.weight.n),
            take_state(arena, n_heads_ * most, head_dim_),
            arena.take<std::atomic<uint32_t>>(shares_)};
}

RingAttention::Own RingAttention::take_own(const WorkspaceShape& shape, Arena& arena) const {
    const uint32_t queries = group() * std::min(shape.rows, kBlockRows);
    const size_t prepared =
        std::max(attend_query_bytes(KvType::int8, head_dim_), attend_query_bytes(KvType::int4, head_dim_));
    return {arena.take<float>(q_size()),
            arena.take<float>(size_t{queries} * head_dim_),
            arena.take<std::byte>(queries * prepared),
            arena.take<uint32_t>(queries),
            arena.take<uint32_t>(queries),
            take_state(arena, queries, head_dim_),
            take_state(arena, queries, head_dim_),
            arena.take<std::byte>(attend_scratch_bytes(queries, head_dim_))};
}

// One layer of one thread's pass.
struct RingAttention::Pass {
    const RingAttention& a;
    Step& step;
    const uint32_t layer;
    const Shared shared;
    const Own own;
    const Row* first;    // whose queries are the first in shared.q
    const bool compact;  // the others' follow one another, as rows that go on do after the others left

    // Which of the rows with queries a row is.
    size_t query(const Row& row) const { return compact ? &row - first : row.place - first->place; }
    const LayerRing& ring(const Row& row) const { return row.layout->ring(layer); }
    static KvType type(const Row& row) { return row.layout->options().type; }
    KvHead cells(const Row& row, uint32_t kv_head) const {
        return row.sequence->head(ring(row), kv_head, type(row), a.head_dim_);
    }
    uint32_t kv_head(uint32_t share) const { return share * a.n_kv_heads_ / a.shares_; }
    // Of what the heads give; vectors that are keys and values alike are kept as they are.
    KvType result_type(const Row& row) const { return ring(row).value_bytes ? type(row) : KvType::f32; }
    uint32_t n_pieces(const Row& last) const {
        const uint32_t slots = ring(last).slots;
        return pieces(slots, static_cast<uint32_t>(std::min<uint64_t>(last.position + 1, slots)));
    }
    const float* normed_head(const float* row, const NormWeights& weights, uint32_t head,
                             uint32_t n_heads) const;
    void store(const Row& row, uint32_t kv_head) const;
    void gate(const Row& row, uint32_t share, float* heads) const;
    void load_queries(const Row* rows, uint32_t n, uint32_t share, bool as_sinks_see) const;
    void attend_piece(const Row* rows, uint32_t n, uint32_t share, uint32_t piece,
                      const AttendState& result) const;
};

void RingAttention::run(Step& step, uint32_t layer, const Activations& input, float* out) const {
    const Rows &rows = step.rows(), &kept = step.kept(layer);
    // All queries from the first row that goes on to the last.
    const bool compact = &rows == &kept;
    const uint32_t first_query = compact || !kept.n ? 0 : kept.row[0].place;
    const uint32_t n_queries = compact || !kept.n ? kept.n : kept.row[kept.n - 1].place + 1 - first_query;
    const Activations queries = rows_of(input, step.spec.d_model, first_query, n_queries);
    Arena shared(step.memory.mixer), own(step.scratch.mixer);
    const Pass pass{
        *this,    step,   layer, take_shared(step.memory.shape, shared), take_own(step.memory.shape, own),
        kept.row, compact};
    const auto done = pass.shared.done;

    if (step.thread == 0)
        for (uint32_t share = 0; share < shares_; ++share) new (done + share) std::atomic<uint32_t>(0);
    project(step, queries, input, pass.shared);

    const bool stored = !own_cells_ || rows.n > 1 || kept.n == 0 || shares_ > n_kv_heads_;
    if (stored && own_cells_) {
        step.for_units(n_kv_heads_ * rows.n, [&](uint32_t first, uint32_t last) {
            for (uint32_t unit = first; unit < last; ++unit)
                pass.store(rows.row[unit / n_kv_heads_], unit % n_kv_heads_);
        });
        step.barrier();
    }

    float* const to = results(step, out);
    const auto finish_share = [&](const AttendState& result, uint32_t share, uint32_t row) {
        float* heads = to + size_t{row} * q_size() + size_t{share} * group() * head_dim_;
        step.kernels.attend_finish(pass.result_type(kept.row[row]), result, group(), head_dim_, heads);
        if (gate_.weight) pass.gate(kept.row[row], share, heads);
    };
    if (kept.n == 1) {
        // A share's pieces side by side; whoever finishes its last one joins them. The new key and value are
        // written by whom they belong to: pieces share no tile.
        const Row& row = kept.row[0];
        const uint32_t n = pass.n_pieces(row);
        const uint32_t newest = pass.ring(row).slot(row.position) / piece_slots(pass.ring(row).slots);
        const auto state = [&](uint32_t unit) {
            return from(pass.shared.pieces, size_t{unit} * group(), head_dim_);
        };
        step.for_units(shares_ * n, [&](uint32_t first, uint32_t last) {
            for (uint32_t unit = first; unit < last; ++unit) {
                const uint32_t share = unit / n, piece = unit % n;
                if (!stored && piece == newest) pass.store(row, share);
                pass.load_queries(&row, 1, share, false);
                pass.attend_piece(&row, 1, share, piece, state(unit));
                if (done[share].fetch_add(1, std::memory_order_acq_rel) + 1 < n) continue;
                for (uint32_t next = 1; next < n; ++next)
                    step.kernels.attend_merge(state(share * n), state(share * n + next), group(), head_dim_);
                finish_share(state(share * n), share, 0);
            }
        });
    } else {
        step.for_units(shares_ * kept.n_blocks, [&](uint32_t first, uint32_t last) {
            for (uint32_t unit = first; unit < last; ++unit) {
                const uint32_t share = unit / kept.n_blocks, block = unit % kept.n_blocks;
                const uint32_t begin = kept.block[block], end = kept.block_end(block);
                const Row* of_block = kept.row + begin;
                const uint32_t n = end - begin;
                pass.load_queries(of_block, n, share, false);
                pass.attend_piece(of_block, n, share, 0, pass.own.state);
                // Joined as a single row's are, so that a row's result is the same in any company.
                for (uint32_t piece = 1; piece < pass.n_pieces(of_block[n - 1]); ++piece) {
                    pass.attend_piece(of_block, n, share, piece, pass.own.piece);
                    step.kernels.attend_merge(pass.own.state, pass.own.piece, n * group(), head_dim_);
                }
                for (uint32_t row = begin; row < end; ++row)
                    finish_share(from(pass.own.state, size_t{row - begin} * group(), head_dim_), share, row);
            }
        });
    }
    step.barrier();
    finish(step, kept.n, out);
}

void RingAttention::project(Step& step, const Activations& queries, const Activations& input,
                            const Shared& shared) const {
    step.project({{q_, queries, {.out = shared.q, .stride = q_size()}},
                  {k_, input, {.out = shared.k, .stride = kv_size()}},
                  {v_, input, {.out = shared.v, .stride = kv_size()}},
                  {gate_, queries, {.out = shared.gate, .stride = gate_.weight.n}}});
    step.barrier();
}

// Head `head` of a q or k row after the model's QK-norm; the row's own numbers when there is none.
const float* RingAttention::Pass::normed_head(const float* row, const NormWeights& weights, uint32_t head,
                                              uint32_t n_heads) const {
    const size_t first = size_t{head} * a.head_dim_;
    switch (step.spec.qk_norm) {
        case QkNorm::none:
        case QkNorm::head_after_rope:
            return row + first;
        case QkNorm::head:
            step.norm(step.spec.norm, weights, row + first, a.head_dim_, own.head);
            return own.head;
        case QkNorm::full:
            step.norm(step.spec.norm, weights, row, n_heads * a.head_dim_, own.head);
            return own.head + first;
        case QkNorm::layer_per_head:
            step.norm(Norm::layer, {weights.weight + first, weights.bias ? weights.bias + first : nullptr},
                      row + first, a.head_dim_, own.head);
            return own.head;
    }
    return row + first;
}

// A row's key and value into their cell.
void RingAttention::Pass::store(const Row& row, uint32_t kv_head) const {
    const float* k =
        normed_head(shared.k + size_t{row.place} * a.kv_size(), a.k_norm_, kv_head, a.n_kv_heads_);
    float* rotated = own.q;  // free until the queries are loaded
    std::copy_n(k, a.head_dim_, rotated);
    if (a.rope_ >= 0) {
        const Workspace::Angles& angles = step.memory.ropes[a.rope_];
        step.kernels.rope(rotated, 1, a.head_dim_, 2 * angles.half,
                          angles.cos + size_t{row.place} * angles.half,
                          angles.sin + size_t{row.place} * angles.half);
    }
    if (step.spec.qk_norm == QkNorm::head_after_rope)
        step.norm(step.spec.norm, a.k_norm_, rotated, a.head_dim_, rotated);
    const float* v =
        (a.k_eq_v_ ? shared.k : shared.v) + size_t{row.place} * a.kv_size() + size_t{kv_head} * a.head_dim_;
    if (step.spec.v_norm) {
        step.kernels.rms_norm(v, nullptr, a.head_dim_, step.spec.norm_eps, own.head);
        v = own.head;
    }
    step.kernels.kv_store(cells(row, kv_head), ring(row).slot(row.position), rotated, v);
}

// What a row's heads of a share gave, times the sigmoids of their gates.
void RingAttention::Pass::gate(const Row& row, uint32_t share, float* heads) const {
    const uint32_t width = a.gate_.weight.n / a.n_heads_;  // of a head's gate
    const float* gate = shared.gate + query(row) * a.gate_.weight.n + size_t{share} * a.group() * width;
    for (uint32_t i = 0; i < a.group(); ++i, gate += width, heads += a.head_dim_) {
        const float* values = gate;
        if (width == 1) {
            std::fill_n(own.head, a.head_dim_, *gate);
            values = own.head;
        }
        step.kernels.activate(Activation::sigmoid, values, heads, heads, a.head_dim_);
    }
}

// The queries of n rows that are one share, row by row, rotated and scaled.
void RingAttention::Pass::load_queries(const Row* rows, uint32_t n, uint32_t share, bool as_sinks_see) const {
    const uint32_t group = a.group();
    const bool norm_after = step.spec.qk_norm == QkNorm::head_after_rope;
    const float scale = norm_after ? 1.0f : step.spec.attn_scale;
    float* out = own.q;
    for (const Row* row = rows; row < rows + n; ++row) {
        float* heads = out;
        const float* of_row = shared.q + query(*row) * a.q_size();
        for (uint32_t i = 0; i < group; ++i, out += a.head_dim_) {
            const float* q = normed_head(of_row, a.q_norm_, share * group + i, a.n_heads_);
            for (uint32_t d = 0; d < a.head_dim_; ++d) out[d] = q[d] * scale;
        }
        if (a.rope_ < 0) continue;
        const Workspace::Angles& angles = step.memory.ropes[a.rope_];
        const Sequence::Rope& rope = row->sequence->rope(a.rope_);
        const bool capped = as_sinks_see && row->position >= row->layout->capacity();
        step.kernels.rope(heads, group, a.head_dim_, 2 * angles.half,
                          capped ? rope.sink_cos.data() : angles.cos + size_t{row->place} * angles.half,
                          capped ? rope.sink_sin.data() : angles.sin + size_t{row->place} * angles.half);
    }
    for (float* head = own.q; norm_after && head < out; head += a.head_dim_) {
        step.norm(step.spec.norm, a.q_norm_, head, a.head_dim_, head);
        for (uint32_t d = 0; d < a.head_dim_; ++d) head[d] *= step.spec.attn_scale;
    }
    if (attend_query_bytes(type(*rows), a.head_dim_))
        step.kernels.attend_query(type(*rows), own.q, n * group, a.head_dim_, own.prepared);
}

// Unnormalised attention of the n rows of a block, whose queries are loaded, over what they see of a piece of
// the ring.
void RingAttention::Pass::attend_piece(const Row* rows, uint32_t n, uint32_t share, uint32_t piece,
                                       const AttendState& result) const {
    const LayerRing& ring = this->ring(*rows);
    const uint32_t group = a.group();
    const uint32_t piece_begin = piece * piece_slots(ring.slots);
    const uint32_t piece_end = piece_begin + piece_slots(ring.slots);
    clear(result, n * group, a.head_dim_);
    if (a.sinks_ && piece == 0)  // one term of the softmax, with a value of zeros
        for (uint32_t query = 0; query < n * group; ++query) {
            result.max[query] = a.sinks_[share * group + query % group];
            result.sum[query] = 1.0f;
        }

    // Neighbouring positions [from, to) in neighbouring slots; each row sees of them what its window and
    // causality allow.
    const auto attend_run = [&](uint64_t from, uint64_t to, bool windowed) {
        const uint32_t slot = ring.slot(from);
        bool any = false;
        for (uint32_t row = 0; row < n; ++row) {
            const uint64_t position = rows[row].position;
            const uint64_t low = std::max(from, windowed ? ring.oldest(position) : 0);
            const uint64_t high = std::max(low, std::min(to, position + 1));
            const uint32_t begin = std::max(piece_begin, slot + static_cast<uint32_t>(low - from));
            const uint32_t end =
                std::max(begin, std::min(piece_end, slot + static_cast<uint32_t>(high - from)));
            any = any || begin < end;
            std::fill_n(own.begin + size_t{row} * group, group, begin);
            std::fill_n(own.end + size_t{row} * group, group, end);
        }
        if (!any) return;
        step.kernels.attend({cells(*rows, kv_head(share)), own.q, own.prepared, n * group, own.begin, own.end,
                             step.spec.attn_softcap, result, own.scratch});
    };

    const uint64_t first = rows[0].position, last = rows[n - 1].position;
    const uint64_t oldest = ring.oldest(first);
    if (oldest <= last) {
        // The ring may wrap inside the run: at most two parts.
        const uint64_t lap_end = ring.sinks + ((oldest - ring.sinks) / ring.ring + 1) * uint64_t{ring.ring};
        attend_run(oldest, std::min(last + 1, lap_end), true);
        if (last + 1 > lap_end) attend_run(lap_end, last + 1, true);
    }
    if (ring.sinks <= piece_begin) return;
    const bool capped = last >= rows->layout->capacity();
    if (capped) load_queries(rows, n, share, true);
    attend_run(0, std::min<uint64_t>(ring.sinks, last + 1), false);
    if (capped) load_queries(rows, n, share, false);
}

namespace {

class Attention final : public RingAttention, public AttentionLayer {
public:
    using RingAttention::RingAttention;
    std::unique_ptr<const Mixer> bind(Binder& bind, const ModelSpec& spec,
                                      const std::string& prefix) const override;
    AttentionDescription description() const override {
        return {n_heads_, n_kv_heads_, head_dim_, rope_, window_, q_,         k_,     v_,
                o_,       q_norm_,     k_norm_,   gate_, sinks_,  own_cells_, k_eq_v_};
    }
};

std::unique_ptr<const Mixer> Attention::bind(Binder& bind, const ModelSpec& spec,
                                             const std::string& prefix) const {
    auto bound = std::make_unique<Attention>(*this);
    bound->q_ = bind.linear(prefix, "q", q_size(), spec.d_model);
    if (own_cells_) bound->k_ = bind.linear(prefix, "k", kv_size(), spec.d_model);
    if (own_cells_ && !k_eq_v_) bound->v_ = bind.linear(prefix, "v", kv_size(), spec.d_model);
    bound->o_ = bind.linear(prefix, "o", spec.d_model, q_size());
    if (spec.attn_gate != AttnGate::none)
        bound->gate_ = bind.linear(prefix, "attn_gate",
                                   spec.attn_gate == AttnGate::head ? n_heads_ : q_size(), spec.d_model);
    bound->sinks_ = bind.vector(prefix, "sinks", n_heads_, false);
    if (spec.qk_norm != QkNorm::none) {
        const bool per_head = spec.qk_norm == QkNorm::head || spec.qk_norm == QkNorm::head_after_rope;
        bound->q_norm_ = bind.norm(prefix, "q_norm", per_head ? head_dim_ : q_size(), true);
        if (own_cells_) bound->k_norm_ = bind.norm(prefix, "k_norm", per_head ? head_dim_ : kv_size(), true);
    }
    return bound;
}

std::unique_ptr<const Mixer> parse(const json::Value& layer, const ModelSpec& spec) {
    return std::make_unique<Attention>(layer, spec);
}

}  // namespace

const MixerKind kAttention{"attention", parse};

}  // namespace edgekit
