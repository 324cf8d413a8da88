#pragma once
// The memory of a pass beside the cells of its texts. A team of threads has one, which passes use in turn.

#include <atomic>
#include <cstdint>
#include <vector>

#include "cpu/arena.h"
#include "cpu/sequence.h"

namespace edgekit {

// Rows of a text that share one reading of its keys and values, at most.
inline constexpr uint32_t kBlockRows = 16;

// Rows that are gathered for an expert at a time.
inline constexpr uint32_t kExpertRows = 64;

// A token, or an embedding, at a position of a text.
struct Row {
    const Sequence* sequence;
    const CacheLayout* layout;
    const StateStep* states;
    uint64_t position;
    uint32_t place;  // among the rows with which the pass begins
    int32_t id;
    const float* embedding;  // [d_model]; nullptr: the id's
};

// Rows of a pass in blocks: neighbours of one text.
struct Rows {
    Row* row;         // [n]
    uint32_t* block;  // [n_blocks] its first row
    uint32_t n, n_blocks;

    void clear() { n = n_blocks = 0; }
    void add(const Row& next);
    uint32_t block_end(uint32_t index) const { return index + 1 < n_blocks ? block[index + 1] : n; }
};

// A vector as the matmul kernels read it: rows of float32 and, for quantized weights, of codes.
struct PreparedRows {
    float* x = nullptr;  // [rows][width]
    int8_t* codes = nullptr;
    ActivationGroup* groups = nullptr;
};

PreparedRows take_prepared(Arena& arena, uint32_t rows, uint32_t width, bool with_floats);

// Which rows of a chunk go through which expert. Choice row · top_k + i is a row's i-th expert; places are
// the choices sorted by expert.
struct ExpertGroups {
    uint32_t* begin;   // [n_experts + 2] an expert's first place; the last one is for the sorting
    uint32_t* choice;  // [rows · top_k] at a place
    uint32_t* place;   // [rows · top_k] of a choice
};

// What one thread needs for itself.
struct ThreadScratch {
    PreparedRows row;   // one row of max(d_model, a mixer's width, a row of per-layer embeddings)
    std::byte* matmul;  // matmul_scratch_bytes
    float* gate;        // a few columns of the feed-forward part for every row
    float* up;
    ExpertGroups experts;
    PreparedRows expert_rows;  // of one expert: kExpertRows at a time
    float* down;               // a few columns of what the experts give for every choice
    std::byte* mixer;          // Mixer::Bytes::thread
};

class Workspace {
public:
    static uint64_t measure(const ModelSpec& spec, const Weights& weights, uint32_t n_threads,
                            const WorkspaceShape& shape);

    Workspace(const ModelSpec& spec, const Weights& weights, uint32_t n_threads)
        : spec_(spec), weights_(weights), n_threads_(n_threads) {}
    // Takes more memory when passes of this shape need it. Throws Error(out_of_memory), and is as it was.
    void fit(const WorkspaceShape& shape);

    WorkspaceShape shape;
    Rows rows{};              // all of a pass
    Rows kept{};              // those that have an output
    float* x = nullptr;       // [rows][d_model] residual stream
    PreparedRows input;       // [rows][max(d_model, a mixer's width)] of a phase
    float* mixed = nullptr;   // [rows][a mixer's width]
    float* branch = nullptr;  // [rows][d_model] what a post-norm reads, or waits for the next mixer
    PreparedRows ffn;         // [rows · top_k, or rows][d_ff]
    float* ple = nullptr;     // [rows][layers][dim] of per-layer embeddings
    struct Angles {
        uint32_t half;
        float* cos;  // [rows][half]
        float* sin;
    };
    std::vector<Angles> ropes;
    float* router = nullptr;     // [rows][n_experts]
    uint32_t* expert = nullptr;  // [rows][top_k]
    float* expert_weight = nullptr;
    float* of_experts = nullptr;         // [rows][d_model] what they give, with norms of its own
    float* shared_weight = nullptr;      // [rows] of the shared expert
    std::byte* mixer = nullptr;          // Mixer::Bytes::shared
    std::atomic<uint32_t> last_look{0};  // of a pass that is given up; see Step::given_up
    std::vector<ThreadScratch> threads;

private:
    void take(const WorkspaceShape& shape, Arena& arena);

    const ModelSpec& spec_;
    const Weights& weights_;
    const uint32_t n_threads_;
    AlignedMemory memory_;
};

// Numbers in a thread's gate and up scratch: enough columns at a time that a pass's rows share the reading of
// their weights.
constexpr uint32_t gate_floats(uint32_t rows) { return rows * 64 > 4096 ? rows * 64 : 4096; }

}  // namespace edgekit
