// Multi-head latent attention: all heads read one vector of a position, the part that is rotated and then the
// latent. A head's keys and values are never made: its queries go through k_up instead, and of the latents
// that they weigh v_up makes what it gives.

#include <algorithm>

#include "cpu/mixers/attention.h"
#include "cpu/mixers/mixers.h"
#include "cpu/step.h"
#include "error.h"

namespace edgekit {

namespace {

constexpr int64_t kMaxRank = 1 << 16;

class LatentAttention final : public RingAttention {
public:
    LatentAttention(const json::Value& layer, const ModelSpec& spec);
    std::unique_ptr<const Mixer> bind(Binder& bind, const ModelSpec& spec,
                                      const std::string& prefix) const override;
    LayerRing ring(const CacheOptions& options) const override;
    uint32_t width() const override { return n_heads_ * value_dim_; }
    Bytes bytes(const WorkspaceShape& shape) const override;

private:
    uint32_t rank() const { return head_dim_ - rope_dim_; }

    // What the threads share in a pass beside what all attention does.
    struct Latents {
        float* low;  // [rows][q_rank]
        int8_t* low_codes;
        ActivationGroup* low_groups;
        float* q;        // [rows][n_heads·key_dim]
        float* q_rope;   // [rows][n_heads·rope_dim]
        float* weighed;  // [rows][q_size] what the heads make of the cells
    };
    Latents take_latents(const WorkspaceShape& shape, Arena& arena) const;
    Latents latents(Step& step) const;
    void project(Step& step, const Activations& queries, const Activations& input,
                 const Shared& shared) const override;
    float* results(Step& step, float*) const override { return latents(step).weighed; }
    void finish(Step& step, uint32_t rows, float* out) const override;
    void of_head(Step& step, const Linear& linear, const float* x, size_t stride, uint32_t rows,
                 const Store& to) const;

    uint32_t rope_dim_, key_dim_, value_dim_, q_rank_;
    float norm_eps_;
    Linear q_down_, q_rope_, latent_, k_rope_;
    const float *q_down_norm_ = nullptr, *latent_norm_ = nullptr;
    std::vector<Linear> k_up_, v_up_;  // [n_heads]: [rank, key_dim] and [value_dim, rank]
};

LatentAttention::LatentAttention(const json::Value& layer, const ModelSpec& spec)
    : RingAttention(layer, spec) {
    const json::Value& of = layer.at("latent");
    know(of, "latent", {"rope_dim", "key_dim", "value_dim", "q_rank", "norm_eps"});
    rope_dim_ = count_at(of, "rope_dim", 0, head_dim_ - 1);
    key_dim_ = count_at(of, "key_dim", 1, kv::kMaxHeadDim);
    value_dim_ = count_at(of, "value_dim", 1, kv::kMaxHeadDim);
    q_rank_ = count_at(of, "q_rank", 0, kMaxRank);
    norm_eps_ = static_cast<float>(of.double_at("norm_eps"));
    if (n_kv_heads_ != 1 || !own_cells_ || k_eq_v_ || (rope_ >= 0 && spec.ropes[rope_].dim > rope_dim_))
        throw Error(Status::invalid_file,
                    "a layer's heads cannot read one latent: they have keys of their own");
    if (spec.qk_norm != QkNorm::none || spec.attn_gate != AttnGate::none || spec.v_norm)
        throw Error(Status::unsupported,
                    "the model has norms or gates on heads that read a latent, which this "
                    "version of edgekit does not know: update it");
    while (n_heads_ % shares_ || group() > kMaxWeighedQueries) ++shares_;
}

std::unique_ptr<const Mixer> LatentAttention::bind(Binder& bind, const ModelSpec& spec,
                                                   const std::string& prefix) const {
    auto bound = std::make_unique<LatentAttention>(*this);
    if (q_rank_) {
        bound->q_down_ = bind.linear(prefix + "q_down", q_rank_, spec.d_model);
        bound->q_down_norm_ = bind.vector(prefix + "q_down_norm", q_rank_, true);
    }
    const uint32_t read = q_rank_ ? q_rank_ : spec.d_model;
    bound->q_ = bind.linear(prefix + "q", n_heads_ * key_dim_, read);
    if (rope_dim_) bound->q_rope_ = bind.linear(prefix + "q_rope", n_heads_ * rope_dim_, read);
    bound->latent_ = bind.linear(prefix + "latent", rank(), spec.d_model);
    bound->latent_norm_ = bind.vector(prefix + "latent_norm", rank(), true);
    if (rope_dim_) bound->k_rope_ = bind.linear(prefix + "k_rope", rope_dim_, spec.d_model);
    for (uint32_t head = 0; head < n_heads_; ++head) {
        const std::string of_head = prefix + "heads." + std::to_string(head) + ".";
        bound->k_up_.push_back(bind.linear(of_head + "k_up", rank(), key_dim_));
        bound->v_up_.push_back(bind.linear(of_head + "v_up", value_dim_, rank()));
    }
    bound->o_ = bind.linear(prefix + "o", spec.d_model, width());
    return bound;
}

// One vector of each position, laid out as values are.
LayerRing LatentAttention::ring(const CacheOptions& options) const {
    LayerRing ring = RingAttention::ring(options);
    ring.key_bytes = ring.value_bytes;
    ring.value_bytes = 0;
    return ring;
}

LatentAttention::Latents LatentAttention::take_latents(const WorkspaceShape& shape, Arena& arena) const {
    const size_t groups = size_t{shape.rows} * row_groups(q_rank_);
    return {arena.take<float>(size_t{shape.rows} * q_rank_),
            arena.take<int8_t>(groups * kGroup),
            arena.take<ActivationGroup>(groups),
            arena.take<float>(size_t{shape.rows} * n_heads_ * key_dim_),
            arena.take<float>(size_t{shape.rows} * n_heads_ * rope_dim_),
            arena.take<float>(size_t{shape.rows} * q_size())};
}

LatentAttention::Latents LatentAttention::latents(Step& step) const {
    Arena arena(step.memory.mixer);
    take_shared(step.memory.shape, arena);
    return take_latents(step.memory.shape, arena);
}

Mixer::Bytes LatentAttention::bytes(const WorkspaceShape& shape) const {
    Bytes bytes = RingAttention::bytes(shape);
    Arena shared;
    take_latents(shape, shared);
    const size_t groups = size_t{shape.rows} * row_groups(std::max(key_dim_, rank()));
    // Threads do not attend while they prepare a head's rows.
    bytes.thread = std::max(bytes.thread, groups * (kGroup + sizeof(ActivationGroup)));
    return {bytes.shared + shared.used(), bytes.thread};
}

// NOLINTBEGIN(clang-analyzer-core.NullPointerArithm): a step has memory for what its layers need
void LatentAttention::project(Step& step, const Activations& queries, const Activations& input,
                              const Shared& shared) const {
    const Latents own = latents(step);
    const size_t q_stride = size_t{n_heads_} * key_dim_, rope_stride = size_t{n_heads_} * rope_dim_;
    const Step::Product latent{latent_, input, {.out = shared.k + rope_dim_, .stride = head_dim_}};
    const Step::Product k_rope{k_rope_, input, {.out = shared.k, .stride = head_dim_}};
    const auto of_queries = [&](const Linear& linear, const Activations& x) {
        const bool rotated = &linear == &q_rope_;
        return Step::Product{
            linear, x, {.out = rotated ? own.q_rope : own.q, .stride = rotated ? rope_stride : q_stride}};
    };
    if (q_rank_)
        step.project({{q_down_, queries, {.out = own.low, .stride = q_rank_}}, latent, k_rope});
    else
        step.project({of_queries(q_, queries), of_queries(q_rope_, queries), latent, k_rope});
    step.barrier();
    step.for_units(input.m + (q_rank_ ? queries.m : 0), [&](uint32_t first, uint32_t last) {
        for (size_t unit = first; unit < last; ++unit) {
            if (unit < input.m) {
                float* x = shared.k + unit * head_dim_ + rope_dim_;
                step.kernels.rms_norm(x, latent_norm_, rank(), norm_eps_, x);
                continue;
            }
            const size_t row = unit - input.m, group = row * row_groups(q_rank_);
            float* x = own.low + row * q_rank_;
            step.kernels.rms_norm(x, q_down_norm_, q_rank_, norm_eps_, x);
            step.kernels.quantize(x, q_rank_, 1, q_rank_, own.low_codes + group * kGroup,
                                  own.low_groups + group);
        }
    });
    step.barrier();
    if (q_rank_) {
        const Activations low{own.low, q_rank_, own.low_codes, own.low_groups, queries.m};
        step.project({of_queries(q_, low), of_queries(q_rope_, low)});
        step.barrier();
    }
    step.for_units(queries.m ? n_heads_ : 0, [&](uint32_t first, uint32_t last) {
        for (size_t head = first; head < last; ++head) {
            float* q = shared.q + head * head_dim_;
            for (size_t row = 0; row < queries.m; ++row)
                std::copy_n(own.q_rope + row * rope_stride + head * rope_dim_, rope_dim_, q + row * q_size());
            of_head(step, k_up_[head], own.q + head * key_dim_, q_stride, queries.m,
                    {.out = q + rope_dim_, .stride = q_size()});
        }
    });
    step.barrier();
}

void LatentAttention::finish(Step& step, uint32_t rows, float* out) const {
    const float* weighed = latents(step).weighed;
    step.for_units(rows ? n_heads_ : 0, [&](uint32_t first, uint32_t last) {
        for (size_t head = first; head < last; ++head)
            of_head(step, v_up_[head], weighed + head * head_dim_ + rope_dim_, q_size(), rows,
                    {.out = out + head * value_dim_, .stride = width()});
    });
    step.barrier();
}
// NOLINTEND(clang-analyzer-core.NullPointerArithm)

// A head's matrix for all rows of its numbers, each `stride` from the next.
void LatentAttention::of_head(Step& step, const Linear& linear, const float* x, size_t stride, uint32_t rows,
                              const Store& to) const {
    const uint32_t k = linear.weight.k, groups = row_groups(k);
    auto* codes = reinterpret_cast<int8_t*>(step.scratch.mixer);
    auto* of_groups = reinterpret_cast<ActivationGroup*>(codes + size_t{rows} * groups * kGroup);
    step.kernels.quantize(x, stride, rows, k, codes, of_groups);
    step.apply(linear, {x, stride, codes, of_groups, rows}, to, 0, linear.weight.n_tiles());
}

std::unique_ptr<const Mixer> parse(const json::Value& layer, const ModelSpec& spec) {
    return std::make_unique<LatentAttention>(layer, spec);
}

}  // namespace

const MixerKind kLatent{"latent", parse};

}  // namespace edgekit
