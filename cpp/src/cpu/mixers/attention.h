#pragma once
// Attention over the ring: what its kinds share, once there are queries, keys and values.

#include <atomic>
#include <memory>
#include <string>

#include "backend/attention.h"
#include "backend/spec.h"
#include "cpu/arena.h"
#include "kernels/kernels.h"

namespace edgekit {

class RingAttention : public Mixer {
public:
    RingAttention(const json::Value& layer, const ModelSpec& spec);
    LayerRing ring(const CacheOptions& options) const override;
    uint32_t width() const override { return q_size(); }
    const Linear& out() const override { return o_; }
    Bytes bytes(const WorkspaceShape& shape) const override;
    void run(Step& step, uint32_t layer, const Activations& input, float* out) const final;

protected:
    // What the threads share in a pass.
    struct Shared {
        float* q;  // [rows][q_size]
        float* k;  // [rows][kv_size]
        float* v;
        float* gate;                  // [rows][gate_size]
        AttendState pieces;           // of one row: [heads][pieces of the ring]
        std::atomic<uint32_t>* done;  // [shares] of those
    };
    Shared take_shared(const WorkspaceShape& shape, Arena& arena) const;
    // Queries of some rows, keys and values of all, not yet rotated. Ends with a barrier.
    virtual void project(Step& step, const Activations& queries, const Activations& input,
                         const Shared& shared) const;
    // Where the heads' results go, rows of q_size(), and what makes of them the rows that run() writes. Ends
    // with a barrier.
    virtual float* results(Step&, float* out) const { return out; }
    virtual void finish(Step&, uint32_t /*rows*/, float* /*out*/) const {}

    uint32_t q_size() const { return n_heads_ * head_dim_; }
    uint32_t kv_size() const { return n_kv_heads_ * head_dim_; }
    uint32_t group() const { return n_heads_ / shares_; }

    uint32_t n_heads_, n_kv_heads_, head_dim_;
    uint32_t shares_;      // of the heads: those of one take their keys and values together
    int32_t rope_ = -1;    // index into ModelSpec::ropes; -1: none
    uint32_t window_ = 0;  // 0: global
    bool own_cells_ = true, k_eq_v_ = false;
    Linear q_, k_, v_, o_;
    Linear gate_;                   // [n_heads or q_size, d_model]; empty: none
    const float* sinks_ = nullptr;  // [n_heads] a score of each that no key has; nullptr: none
    NormWeights q_norm_, k_norm_;   // [head_dim], [q_size] or [n_heads, head_dim]: see QkNorm

private:
    struct Own;
    Own take_own(const WorkspaceShape& shape, Arena& arena) const;
    struct Pass;
};

}  // namespace edgekit
