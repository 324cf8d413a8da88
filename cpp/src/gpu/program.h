#pragma once
// A model as a list of dispatches over buffers, made once. A pass fills the table of its rows and runs the
// list; nothing of the model is looked at again.

#include <array>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/attention.h"
#include "backend/backend.h"
#include "backend/short_conv.h"
#include "gpu/device.h"
#include "gpu/kernels.h"

namespace edgekit::gpu {

// Rows that are computed at a time, at most, and of those with an output.
inline constexpr uint32_t kPassRows = 128, kOutputRows = 16;

// Places in the arena, in words.
struct ArenaPlan {
    ArenaPlan(const ModelSpec& spec, const Weights& weights);

    uint32_t x, input, input_codes, q, k, v, q_out, q_sink, gates_of_heads, parts, bcx, mixed, mixed_codes,
        branch, gate, up, hidden, hidden_codes, scores, chosen, shares, choices, layer_inputs,
        layer_projections, out;
    uint64_t words = 0;

private:
    uint32_t take(uint64_t n);
};

// Places in the table of rows, in words; see wgsl/common.wgsl.
struct RowsPlan {
    explicit RowsPlan(const ModelSpec& spec, const Weights& weights);

    struct Rope {
        uint32_t angles, sink_angles, half;
    };
    // Layers whose rings are alike in any context.
    struct Ring {
        uint64_t key;    // what their mixers have in common
        uint32_t layer;  // the first of them
        uint32_t table;
    };
    static constexpr uint32_t kRingWords = 8, kExpertParts = 3;
    // Where the matrices of a layer's experts begin, and their biases, by part and expert.
    uint32_t layers, ids, experts;
    std::vector<Rope> ropes;
    std::vector<Ring> rings;
    uint32_t words = 0;

    uint32_t ring(const Mixer& mixer) const;
};

class Program {
public:
    // Throws BackendFailure for a model with parts that have no kernel.
    Program(const ModelSpec& spec, const Weights& weights, Device& device);
    // Of the arena and the table, which all texts share.
    static uint64_t shared_bytes(const ModelSpec& spec, const Weights& weights);

    // What the dispatches of a text with these cells are bound to, a page each.
    using TextBindings = std::vector<std::unique_ptr<Bindings>>;
    TextBindings bind(const Buffer& cells) const;
    // At most kPassRows rows of a text, of which the outputs that are wanted are written.
    void run(const Part& part, const TextBindings& bindings, Output output, float* out);

private:
    enum class Variant : uint8_t { none, rows, cells, once };
    struct Node {
        std::array<const Kernel*, 3> kernels;  // by kBlockedRows, or by KvType; else the first
        Variant variant;                       // once: for all rows together
        uint32_t params, page, x;
        bool kept;         // rows with an output alone
        bool pieces;       // of the rings
        uint32_t choices;  // rows of the grid for a row of the pass
    };
    // A matrix, or the tiles of it that lie on one page.
    struct Placed {
        uint32_t page, base, first_tile, n_tiles;
    };
    struct Projection {
        const Linear* linear;
        uint32_t out, stride;
    };
    struct Input {
        uint32_t floats, codes;
    };
    struct Target {
        bool kept, compact = false, add = false;
        float scale = 1, softcap = 0;
    };
    using ExpertPart = Linear FeedForward::*;

    void place_matrix(const Matrix& matrix);
    bool adopt_matrices();
    void copy_matrices();
    void place_vector(const float* values, uint32_t n, std::vector<float>& all);
    void place(const Linear& linear, std::vector<float>& all);
    void place(const NormWeights& norm, uint32_t n, std::vector<float>& all);
    void place_weights();
    uint32_t vector(const float* values) const { return values ? vectors_at_.at(values) : kNone; }

    const Kernel* kernel(const std::string& name, uint32_t lanes, std::initializer_list<Constant> constants,
                         std::initializer_list<std::string_view> files);
    std::array<const Kernel*, 3> product_kernels(const std::string& name, Layout layout);
    std::array<const Kernel*, 3> cell_kernels(const std::string& name, uint32_t head_dim);
    template <class Params>
    void add(std::vector<Node>& to, const std::array<const Kernel*, 3>& kernels, Variant variant,
             const Params& params, uint32_t x, bool kept, uint32_t page = 0, bool pieces = false,
             uint32_t choices = 1);

    void build();
    void embed();
    void attention(uint32_t layer, const AttentionLayer& mixer, bool kept);
    void short_conv(uint32_t layer, const ShortConvLayer& mixer, bool kept);
    void feed_forward(uint32_t layer, bool kept);
    void layer_inputs();
    void let_through(uint32_t layer, bool kept, float whole);
    void activate(ActivateParams params);
    void experts(uint32_t layer, bool kept, float scalar);
    void project_experts(uint32_t layer, std::initializer_list<std::pair<ExpertPart, uint32_t>> parts,
                         Input input, bool by_choice, bool kept);
    void outputs();
    void norm(std::vector<Node>& to, const NormWeights& weights, uint32_t width, uint32_t input, bool kept,
              const NormParams& places, uint32_t choices = 1);
    void project(std::vector<Node>& to, std::initializer_list<Projection> all, Input input,
                 const Target& target);
    void normalize(const NormWeights& weights, bool kept);
    void add_branch(const Linear& linear, Input input, const NormWeights& post_norm, bool kept,
                    float scalar = 1);

    void write_layer_inputs(const Part& part);
    void fill_rows(const Part& part, uint32_t pieces, uint32_t piece_slots);
    void dispatch(const std::vector<Node>& nodes, const TextBindings& bindings, const Part& part,
                  uint32_t outputs, uint32_t pieces);

    const ModelSpec& spec_;
    const Weights& weights_;
    Device& device_;
    const Kernels& kernels_ = *find_kernels(nullptr);
    const ArenaPlan arena_plan_;
    const RowsPlan rows_plan_;
    std::vector<std::unique_ptr<Buffer>> pages_;
    std::vector<Matrix> matrices_;
    std::unordered_map<const std::byte*, std::vector<Placed>> matrices_at_;
    std::unordered_map<const float*, uint32_t> vectors_at_;
    std::unique_ptr<Buffer> vectors_, params_, arena_, rows_;
    std::vector<std::byte> params_bytes_;
    uint32_t next_expert_ = rows_plan_.experts;  // in the table, while the list is made
    std::vector<Node> embed_, body_, logits_, hidden_;
    std::vector<uint32_t> table_;       // of the rows
    std::vector<float> token_inputs_;   // of the rows of a pass, from the per-layer embeddings
    std::vector<Dispatch> dispatches_;  // of a pass
};

}  // namespace edgekit::gpu
