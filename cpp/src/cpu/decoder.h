#pragma once
// One decoder for every model the spec can describe. A forward pass is one run of the thread team: inside a
// layer the members meet at about five barriers, and each phase is split by tiles of the weights, key/value
// heads or rows.

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "cpu/arena.h"
#include "kernels/kernels.h"
#include "threads/thread_team.h"

namespace edgekit {

// A vector as the matmul kernels read it: rows of float32 and, for quantized weights, of codes.
struct PreparedRows {
    float* x = nullptr;  // [rows][width]
    int8_t* codes = nullptr;
    ActivationGroup* groups = nullptr;
    uint32_t width = 0;
};

// Which rows of a chunk go through which expert. Choice row · top_k + i is a row's i-th expert; places are
// the choices sorted by expert.
struct ExpertGroups {
    uint32_t* begin;   // [n_experts + 2] an expert's first place; the last one is for the sorting
    uint32_t* choice;  // [chunk · top_k] at a place
    uint32_t* place;   // [chunk · top_k] of a choice
};

// What one thread needs for itself.
struct ThreadScratch {
    PreparedRows row;   // one row of max(d_model, q_size)
    std::byte* matmul;  // matmul_scratch_bytes
    float* gate;        // a few columns of the feed-forward part for every row of the chunk
    float* up;
    ExpertGroups experts;
    PreparedRows expert_rows;  // of one expert: kExpertRows at a time
    float* down;               // a few columns of what the experts give for every choice
    float* head;               // one head, or a whole normalised q or k row
    float* q;                  // [queries][head_dim]
    std::byte* prepared_q;
    uint32_t* begin;  // [queries]
    uint32_t* end;
    AttendState state;  // [queries]
    AttendState piece;  // of those, what one piece of the ring gives
    std::byte* attend;
};

// Every buffer of a forward pass, in one allocation.
class DecoderState {
public:
    static uint64_t measure(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout,
                            uint32_t n_threads);

    DecoderState(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout,
                 uint32_t n_threads);

private:
    friend class Decoder;
    DecoderState(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout, uint32_t n_threads,
                 uint64_t bytes);
    void take_buffers(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout,
                      uint32_t n_threads);

    AlignedMemory memory_;
    Arena arena_;

    uint32_t chunk_;
    float* x_ = nullptr;      // [chunk][d_model] residual stream
    PreparedRows h_;          // [chunk][max(d_model, q_size)] a phase's input
    float* mixed_ = nullptr;  // [chunk][d_model] what a post-norm reads
    float* q_ = nullptr;      // [chunk][max q_size], or [chunk][3·d_model] in a convolution
    float* k_ = nullptr;
    float* v_ = nullptr;
    float* attended_ = nullptr;  // [chunk][max q_size]
    PreparedRows ffn_;           // [chunk · top_k, or chunk][d_ff]
    struct Angles {
        const std::vector<double>* inv_freq;
        float factor;
        uint32_t half;
        float* cos;  // [chunk][half]
        float* sin;
        float* sink_cos;  // [half] at position capacity - 1
        float* sink_sin;
    };
    std::vector<Angles> ropes_;
    float* router_ = nullptr;     // [chunk][n_experts]
    uint32_t* expert_ = nullptr;  // [chunk][top_k]
    float* expert_weight_ = nullptr;
    AttendState pieces_{};                                  // of one token: [heads][pieces of the ring]
    std::unique_ptr<std::atomic<uint32_t>[]> pieces_done_;  // [key/value heads]
    std::atomic<uint32_t> last_look_{0};                    // of a pass that is given up; see Step::given_up
    std::vector<ThreadScratch> threads_;
};

class Decoder {
public:
    Decoder(const ModelSpec& spec, const Weights& weights, const Kernels& kernels)
        : spec_(spec), weights_(weights), kernels_(kernels) {}

    // See Backend::forward. The result does not depend on how many threads (at most the team's size) compute
    // it.
    bool forward(const Part& part, ThreadTeam& team, uint32_t threads, const GiveUp& give_up) const;

private:
    struct Step;
    void embed(Step& step, const int32_t* ids, uint32_t thread) const;
    bool layers(Step& step, uint32_t thread) const;
    void attention(Step& step, uint32_t layer, uint32_t thread) const;
    void store_row(Step& step, uint32_t layer, uint32_t row, uint32_t kv_head, ThreadScratch& scratch) const;
    void attend_piece(Step& step, uint32_t layer, uint32_t kv_head, uint32_t first_row, uint32_t last_row,
                      uint32_t piece, const AttendState& result, ThreadScratch& scratch) const;
    void load_queries(Step& step, uint32_t layer, uint32_t kv_head, uint32_t first_row, uint32_t last_row,
                      bool as_sinks_see, ThreadScratch& scratch) const;
    const float* normed_head(const float* row, const NormWeights& weights, uint32_t head, uint32_t n_heads,
                             uint32_t head_dim, float* scratch) const;
    void convolution(Step& step, uint32_t layer, uint32_t thread) const;
    void feed_forward(Step& step, uint32_t layer, uint32_t thread) const;
    bool experts(Step& step, uint32_t layer, uint32_t thread) const;
    void choose_experts(Step& step, uint32_t layer, const Activations& input, uint32_t thread) const;
    void group_by_expert(Step& step, uint32_t n_experts, ExpertGroups& groups) const;
    Activations gather(const Activations& input, const uint32_t* choices, uint32_t n,
                       const PreparedRows& to) const;
    void gate_up(Step& step, const FeedForward& ffn, const Activations& input, uint32_t first_row_out,
                 uint32_t first_unit, uint32_t last_unit, ThreadScratch& scratch) const;
    void logits(Step& step, uint32_t thread) const;

    void norm(Norm kind, const NormWeights& weights, const float* x, uint32_t n, float* out) const;
    Activations prepare(Step& step, const NormWeights& weights, const float* source, uint32_t width,
                        uint32_t thread) const;
    void apply(const Linear& linear, const Activations& input, Store to, uint32_t first_tile,
               uint32_t last_tile, ThreadScratch& scratch) const;
    void project(Step& step, const Linear& linear, const Activations& input, const Store& to,
                 uint32_t thread) const;
    void add_to_residual(Step& step, const Linear& linear, const Activations& input,
                         const NormWeights& post_norm, uint32_t thread) const;
    void add_mixed(Step& step, const NormWeights& post_norm, uint32_t thread) const;

    const ModelSpec& spec_;
    const Weights& weights_;
    const Kernels& kernels_;
};

}  // namespace edgekit
