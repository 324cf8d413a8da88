#include "gpu/program.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "quant/layouts.h"

namespace edgekit::gpu {

namespace {

constexpr std::array<uint32_t, 3> kBlockedRows = {1, 4, 16};  // that read a matrix together
constexpr uint32_t kMaxPieces = 16, kPieceSlots = 512, kBlockSlots = 64;
constexpr uint64_t kMaxPage = uint64_t{1} << 30;
constexpr uint64_t kMemoryPage = uint64_t{16} << 10;  // of the processor's memory, or several
constexpr uint32_t kVector = 16;                      // bytes of a vector of words
constexpr uint32_t kLanes = 64, kRowLanes = 256;      // of a workgroup; of one over a whole row
constexpr uint32_t kStoredColumns = 4 * kRowLanes;    // of a workgroup: see wgsl/quantize.wgsl

// Words of a row of activations as codes: 8 a group, scales, sums.
uint32_t code_words(uint32_t width) { return 10 * ((width + kGroup - 1) / kGroup); }

template <class Layer>
const Layer* as(const Mixer& mixer) {
    return dynamic_cast<const Layer*>(&mixer);
}

// Layers with the same one have rings that are alike in any context.
uint64_t ring_key(const Mixer& mixer) {
    if (const auto* conv = as<ShortConvLayer>(mixer)) return uint64_t{1} << 32 | conv->description().kernel;
    return as<AttentionLayer>(mixer)->description().window;
}

[[noreturn]] void unsupported(const std::string& what) {
    throw BackendFailure("the GPU does not compute " + what + " yet");
}

// What the kernels know of a model; what has tensors of its own is found out by their bytes.
void check(const ModelSpec& spec, const Weights& weights) {
    if (spec.moe.d_shared) unsupported("shared experts");
    if (spec.moe.score != RouterScore::softmax || spec.moe.scale != 1) unsupported("this model's router");
    if (spec.qk_norm == QkNorm::head_after_rope && spec.norm != Norm::rms)
        unsupported("layer norms of rotated queries and keys");
    for (const LayerSpec& layer : spec.layers)
        if (layer.beside) unsupported("mixers that stand beside each other");
    for (const LayerWeights& layer : weights.layers)
        if (!as<AttentionLayer>(*layer.mixer) && !as<ShortConvLayer>(*layer.mixer))
            unsupported("layers other than attention and short convolutions");
}

// Of a pass, [rows][layers][dim].
uint64_t layer_input_numbers(const ModelSpec& spec) {
    return uint64_t{kPassRows} * spec.layers.size() * spec.ple.dim;
}

}  // namespace

ArenaPlan::ArenaPlan(const ModelSpec& spec, const Weights& weights) {
    uint32_t q_size = 0, kv_size = 0, head_parts = 0, projected = 0, mixed_size = 0, gates = 0,
             d_ff = spec.ple.dim, most_experts = 0, choices_of_row = 1;
    for (size_t i = 0; i < spec.layers.size(); ++i) {
        const Mixer& mixer = *weights.layers[i].mixer;
        if (const auto* attention = as<AttentionLayer>(mixer)) {
            const AttentionDescription a = attention->description();
            q_size = std::max(q_size, a.n_heads * a.head_dim);
            kv_size = std::max(kv_size, a.n_kv_heads * a.head_dim);
            head_parts = std::max(head_parts, a.n_heads * kMaxPieces * (a.head_dim + 2));
            gates = std::max(gates, a.gate.weight.n);
        } else {
            projected = 3 * spec.d_model;
            mixed_size = spec.d_model;
        }
        const uint32_t n_experts = spec.layers[i].n_experts;
        choices_of_row = std::max(choices_of_row, n_experts ? spec.moe.top_k : 1);
        most_experts = std::max(most_experts, n_experts);
        d_ff = std::max(d_ff, spec.layers[i].d_ff);
    }
    mixed_size = std::max(mixed_size, q_size);
    const uint64_t rows = kPassRows;
    x = take(rows * spec.d_model);
    input = take(rows * spec.d_model);
    input_codes = take(rows * code_words(spec.d_model));
    q = take(rows * q_size);
    k = take(rows * kv_size);
    v = take(rows * kv_size);
    q_out = take(rows * q_size);
    q_sink = take(rows * q_size);
    gates_of_heads = take(rows * gates);
    parts = take(rows * head_parts);
    bcx = take(rows * projected);
    mixed = take(rows * mixed_size);
    mixed_codes = take(rows * code_words(mixed_size));
    branch = take(rows * spec.d_model);
    const uint64_t ffn_rows = rows * choices_of_row;
    gate = take(ffn_rows * d_ff);
    up = take(ffn_rows * d_ff);
    hidden = take(ffn_rows * d_ff);
    hidden_codes = take(ffn_rows * code_words(d_ff));
    scores = take(rows * most_experts);
    chosen = take(most_experts ? ffn_rows : 0);
    shares = take(most_experts ? ffn_rows : 0);
    choices = take(most_experts ? ffn_rows * spec.d_model : 0);
    layer_inputs = take(layer_input_numbers(spec));
    layer_projections = take(layer_input_numbers(spec));
    out = take(uint64_t{kOutputRows} * std::max(spec.vocab_size, spec.d_model));
}

uint32_t ArenaPlan::take(uint64_t n) {
    const auto place = static_cast<uint32_t>(words);
    words += (n + 63) / 64 * 64;
    return place;
}

RowsPlan::RowsPlan(const ModelSpec& spec, const Weights& weights) {
    const auto take = [&](size_t n) {
        const uint32_t place = words;
        words += static_cast<uint32_t>(n);
        return place;
    };
    take(4);
    layers = take(2 * spec.layers.size());
    ids = take(kPassRows);
    for (const RopeSpec& rope : spec.ropes) {
        const uint32_t half = rope.dim / 2;
        const uint32_t angles = take(size_t{kPassRows} * 2 * half);
        ropes.push_back({angles, take(size_t{2} * half), half});
    }
    size_t n_experts = 0;
    for (const LayerSpec& layer : spec.layers) n_experts += layer.n_experts;
    experts = take(2 * kExpertParts * n_experts);
    for (uint32_t i = 0; i < spec.layers.size(); ++i) {
        const uint64_t key = ring_key(*weights.layers[i].mixer);
        const bool known =
            std::any_of(rings.begin(), rings.end(), [&](const Ring& ring) { return ring.key == key; });
        if (!known) rings.push_back({key, i, take(size_t{kPassRows} * kRingWords)});
    }
}

uint32_t RowsPlan::ring(const Mixer& mixer) const {
    const uint64_t key = ring_key(mixer);
    return std::find_if(rings.begin(), rings.end(), [&](const Ring& ring) { return ring.key == key; })->table;
}

uint64_t Program::shared_bytes(const ModelSpec& spec, const Weights& weights) {
    check(spec, weights);
    const uint64_t words = ArenaPlan(spec, weights).words + RowsPlan(spec, weights).words;
    return (words + layer_input_numbers(spec)) * sizeof(uint32_t);
}

Program::Program(const ModelSpec& spec, const Weights& weights, Device& device)
    : spec_(spec),
      weights_(weights),
      device_(device),
      arena_plan_((check(spec, weights), spec), weights),
      rows_plan_(spec, weights),
      table_(rows_plan_.words),
      token_inputs_(layer_input_numbers(spec)) {
    const uint64_t arena_bytes = arena_plan_.words * sizeof(uint32_t);
    if (arena_bytes > device.limits().buffer_bytes) unsupported("activations this large");
    place_weights();
    arena_ = device.buffer(Device::Use::storage, arena_bytes);
    rows_ = device.buffer(Device::Use::storage, table_.size() * sizeof(uint32_t));
    build();
    params_ = device.buffer(Device::Use::params, params_bytes_.size());
    device.write(*params_, 0, params_bytes_);
    params_bytes_ = {};
}

Program::TextBindings Program::bind(const Buffer& cells) const {
    TextBindings out;
    for (const auto& page : pages_)
        out.push_back(device_.bind({*params_, *rows_, *vectors_, *page, *arena_, cells}));
    return out;
}

// ---- weights ----------------------------------------------------------------------------------------------

void Program::place_matrix(const Matrix& matrix) {
    if (matrix && matrices_at_.try_emplace(matrix.data).second) matrices_.push_back(matrix);
}

// Where they lie, as one page; false: the device does not read the processor's memory.
bool Program::adopt_matrices() {
    const auto address = [](const void* at) { return reinterpret_cast<uintptr_t>(at); };
    uintptr_t begin = UINTPTR_MAX, end = 0;
    for (const Matrix& matrix : matrices_) {
        begin = std::min(begin, address(matrix.data));
        end = std::max(end, address(matrix.data) + matrix.n_tiles() * matrix.tile_bytes);
    }
    begin = begin / kMemoryPage * kMemoryPage;
    end = (end + kMemoryPage - 1) / kMemoryPage * kMemoryPage;
    if (end - begin > device_.limits().buffer_bytes) return false;
    auto page = device_.adopt({reinterpret_cast<const std::byte*>(begin), end - begin});
    if (!page) return false;
    pages_.push_back(std::move(page));
    for (const Matrix& matrix : matrices_)
        matrices_at_[matrix.data] = {
            {0, static_cast<uint32_t>((address(matrix.data) - begin) / kVector), 0, matrix.n_tiles()}};
    return true;
}

// Into pages that are as large as the device reads at a time.
void Program::copy_matrices() {
    const uint64_t most = std::min(device_.limits().buffer_bytes, kMaxPage);
    std::vector<uint64_t> pages;
    for (const Matrix& matrix : matrices_) {
        if (matrix.tile_bytes > most) unsupported("rows this long");
        std::vector<Placed>& placed = matrices_at_[matrix.data];
        for (uint32_t tile = 0; tile < matrix.n_tiles();) {
            if (pages.empty() || pages.back() + matrix.tile_bytes > most) pages.push_back(0);
            const auto fit = static_cast<uint32_t>(
                std::min<uint64_t>(matrix.n_tiles() - tile, (most - pages.back()) / matrix.tile_bytes));
            placed.push_back({static_cast<uint32_t>(pages.size() - 1),
                              static_cast<uint32_t>(pages.back() / kVector), tile, fit});
            pages.back() += fit * matrix.tile_bytes;
            tile += fit;
        }
    }
    for (const uint64_t page : pages) pages_.push_back(device_.buffer(Device::Use::storage, page));
    for (const Matrix& matrix : matrices_)
        for (const Placed& part : matrices_at_.at(matrix.data))
            device_.write(*pages_[part.page], uint64_t{part.base} * kVector,
                          {matrix.tile(part.first_tile), part.n_tiles * matrix.tile_bytes});
}

void Program::place_vector(const float* values, uint32_t n, std::vector<float>& all) {
    if (!values || vectors_at_.contains(values)) return;
    vectors_at_[values] = static_cast<uint32_t>(all.size());
    all.insert(all.end(), values, values + n);
    all.resize(round_up(static_cast<uint32_t>(all.size()), kTileRows));  // as the file has them
}

void Program::place(const Linear& linear, std::vector<float>& all) {
    place_matrix(linear.weight);
    place_vector(linear.bias, linear.weight.n, all);
}

void Program::place(const NormWeights& norm, uint32_t n, std::vector<float>& all) {
    place_vector(norm.weight, n, all);
    place_vector(norm.bias, n, all);
}

void Program::place_weights() {
    std::vector<float> vectors;
    const auto take = [&](const Linear& linear) { place(linear, vectors); };
    take({weights_.embed, nullptr});
    for (const LayerWeights& layer : weights_.layers) {
        for (const NormWeights* norm :
             {&layer.attn_norm, &layer.attn_post_norm, &layer.ffn_norm, &layer.ffn_post_norm})
            place(*norm, spec_.d_model, vectors);
        place(layer.o_norm, layer.mixer->width(), vectors);
        place(layer.dense.down_norm, layer.dense.down.weight.k, vectors);
        place(layer.ple_post_norm, spec_.d_model, vectors);
        for (const float* number : {layer.dense.alpha_p, layer.dense.alpha_n, layer.scalar})
            place_vector(number, 1, vectors);
        if (const auto* attention = as<AttentionLayer>(*layer.mixer)) {
            const AttentionDescription a = attention->description();
            const bool per_head = spec_.qk_norm == QkNorm::head || spec_.qk_norm == QkNorm::head_after_rope;
            place_vector(a.sinks, a.n_heads, vectors);
            place(a.q_norm, per_head ? a.head_dim : a.n_heads * a.head_dim, vectors);
            place(a.k_norm, per_head ? a.head_dim : a.n_kv_heads * a.head_dim, vectors);
            for (const Linear& linear : {a.q, a.k, a.v, a.o, a.gate}) take(linear);
        } else {
            const ShortConvDescription conv = as<ShortConvLayer>(*layer.mixer)->description();
            place_vector(conv.conv, conv.d_model * conv.kernel, vectors);
            place_vector(conv.bias, conv.d_model, vectors);
            for (const Linear& linear : {conv.in, conv.out}) take(linear);
        }
        for (const FeedForward* part : {&layer.dense, &layer.ple})
            for (const Linear& linear : {part->gate, part->up, part->down}) take(linear);
        take(layer.router);
        for (const ExpertPart part : {&FeedForward::gate, &FeedForward::up, &FeedForward::down})
            for (const FeedForward& expert : layer.experts) take(expert.*part);
    }
    place(weights_.embed_norm, spec_.d_model, vectors);
    place(weights_.ple_norm, spec_.ple.dim, vectors);
    take(weights_.ple_proj);
    place(weights_.final_norm, spec_.d_model, vectors);
    take(weights_.head);

    uint64_t bytes = vectors.size() * sizeof(float);
    for (const Matrix& matrix : matrices_) bytes += matrix.n_tiles() * matrix.tile_bytes;
    if (bytes != weights_.bytes) unsupported("all of this model's tensors");

    if (!adopt_matrices()) copy_matrices();
    vectors_ = device_.buffer(Device::Use::storage, vectors.size() * sizeof(float));
    device_.write(*vectors_, 0, std::as_bytes(std::span(vectors)));
}

// ---- kernels ----------------------------------------------------------------------------------------------

// Without those of the files whose names are empty.
const Kernel* Program::kernel(const std::string& name, uint32_t lanes,
                              std::initializer_list<Constant> constants,
                              std::initializer_list<std::string_view> files) {
    std::vector<std::string_view> named;
    std::copy_if(files.begin(), files.end(), std::back_inserter(named),
                 [](std::string_view file) { return !file.empty(); });
    return device_.kernel(name, lanes, constants, named);
}

// Over a layout; the files that read it.
std::array<const Kernel*, 3> Program::product_kernels(const std::string& name, Layout layout) {
    const LayoutInfo& info = layout_info(layout);
    const bool table = layout == Layout::q4_block32 || layout == Layout::q3_block32;
    const bool affine = layout == Layout::q4_affine32;
    const bool row_scales = info.quantized() && layout != Layout::q8_block32 && !affine;
    const std::string of = name + " " + info.name;
    std::array<const Kernel*, 3> out{};
    for (size_t i = 0; i < out.size(); ++i)
        out[i] = kernel(of, kLanes, {{"ROWS", name == "matvec" ? kBlockedRows[i] : 1}},
                        {"common", info.quantized() ? "block" : "dense",
                         !info.quantized() ? ""
                         : table           ? "codebook"
                                           : "no_table",
                         row_scales ? "row_scales" : "", !info.quantized() || affine ? "" : "no_minimum",
                         info.name, name});
    return out;
}

// Over a type of cells.
std::array<const Kernel*, 3> Program::cell_kernels(const std::string& name, uint32_t head_dim) {
    const Constant dim{"HEAD_DIM", head_dim}, pairs{"PAIRS", (head_dim + 127) / 128};
    std::array<const Kernel*, 3> out{};
    for (const KvType type : {KvType::f32, KvType::f16, KvType::int8}) {
        const std::string word = type == KvType::f32 ? "f32" : type == KvType::f16 ? "f16" : "int8";
        const bool stores = name == "store";
        const std::string layout = "layout_" + word, access = (stores ? "store_" : "attend_") + word;
        out[static_cast<size_t>(type)] =
            kernel(name + " " + word, kLanes, {dim, pairs},
                   {"common", "cells", layout, stores ? "total" : "", access, name});
    }
    return out;
}

// ---- the list ---------------------------------------------------------------------------------------------

template <class Params>
void Program::add(std::vector<Node>& to, const std::array<const Kernel*, 3>& kernels, Variant variant,
                  const Params& params, uint32_t x, bool kept, uint32_t page, bool pieces, uint32_t choices) {
    static_assert(sizeof(Params) <= kParamsBytes);
    if (x > device_.limits().workgroups) unsupported("matrices with this many rows");
    const auto index = static_cast<uint32_t>(params_bytes_.size() / kParamsBytes);
    params_bytes_.resize(params_bytes_.size() + kParamsBytes);
    std::memcpy(params_bytes_.data() + size_t{index} * kParamsBytes, &params, sizeof params);
    to.push_back({kernels, variant, index, page, x, kept, pieces, choices});
}

void Program::build() {
    embed();
    if (spec_.ple.dim) layer_inputs();
    for (uint32_t i = 0; i < spec_.layers.size(); ++i) {
        const LayerSpec& layer = spec_.layers[i];
        const LayerWeights& w = weights_.layers[i];
        const bool kept = i >= spec_.last_writer;  // once its cells are written
        normalize(w.attn_norm, i > spec_.last_writer);
        if (layer.parallel) feed_forward(i, kept);
        if (const auto* attention_layer = as<AttentionLayer>(*w.mixer))
            attention(i, *attention_layer, kept);
        else
            short_conv(i, *as<ShortConvLayer>(*w.mixer), kept);
        if (!layer.d_ff) continue;
        const float whole = w.scalar ? *w.scalar : 1.0F, scalar = spec_.ple.dim ? 1.0F : whole;
        if (!layer.parallel) normalize(w.ffn_norm, kept);
        if (layer.n_experts) {
            experts(i, kept, scalar);
        } else {
            if (!layer.parallel) feed_forward(i, kept);
            add_branch(w.dense.down, {arena_plan_.hidden, arena_plan_.hidden_codes}, w.ffn_post_norm, kept,
                       scalar);
        }
        if (spec_.ple.dim) let_through(i, kept, whole);
    }
    outputs();
}

// The residual stream as the next matrices read it.
void Program::normalize(const NormWeights& weights, bool kept) {
    norm(body_, weights, spec_.d_model, arena_plan_.x, kept,
         {.floats = arena_plan_.input, .codes = arena_plan_.input_codes});
}

// What the layers let through of every row, added to what run() brings of its token.
void Program::layer_inputs() {
    const ArenaPlan& at = arena_plan_;
    const PerLayerEmbeddingSpec& ple = spec_.ple;
    const auto n_layers = static_cast<uint32_t>(spec_.layers.size());
    normalize({}, false);
    project(body_, {{&weights_.ple_proj, at.layer_projections, n_layers * ple.dim}},
            {at.input, at.input_codes}, {.kept = false, .scale = ple.proj_scale});
    norm(body_, weights_.ple_norm, ple.dim, at.layer_projections, false,
         {.sum = at.layer_inputs, .scale = ple.scale}, n_layers);
}

// x = (x + down(f(gate(x)) · the layer's input)) · whole.
void Program::let_through(uint32_t layer, bool kept, float whole) {
    const ArenaPlan& at = arena_plan_;
    const LayerWeights& w = weights_.layers[layer];
    const uint32_t dim = spec_.ple.dim;
    normalize({}, kept);
    project(body_, {{&w.ple.gate, at.gate, dim}}, {at.input, at.input_codes}, {.kept = kept});
    activate({.width = dim,
              .gate = at.gate,
              .up = at.layer_inputs + layer * dim,
              .up_stride = static_cast<uint32_t>(spec_.layers.size()) * dim,
              .kept = kept});
    add_branch(w.ple.down, {at.hidden, at.hidden_codes}, w.ple_post_norm, kept, whole);
}

void Program::embed() {
    const Matrix& matrix = weights_.embed;
    const LayoutInfo& info = layout_info(matrix.layout);
    const auto kernels = product_kernels("embed", matrix.layout);
    for (const Placed& part : matrices_at_.at(matrix.data))
        add(embed_, kernels, Variant::none,
            EmbedParams{.groups = matrix.n_groups(),
                        .codes = static_cast<uint32_t>(info.codes_offset(matrix.k) / kVector),
                        .tile = static_cast<uint32_t>(matrix.tile_bytes / kVector),
                        .first_tile = part.first_tile,
                        .n_tiles = part.n_tiles,
                        .base = part.base,
                        .ids = rows_plan_.ids,
                        .width = matrix.k,
                        .out = arena_plan_.x,
                        .scale = spec_.embed_scale},
            1, false, part.page);
    if (weights_.embed_norm)
        norm(embed_, weights_.embed_norm, spec_.d_model, arena_plan_.x, false, {.floats = arena_plan_.x});
}

// `places`: where the results go.
void Program::norm(std::vector<Node>& to, const NormWeights& weights, uint32_t width, uint32_t input,
                   bool kept, const NormParams& places, uint32_t choices) {
    NormParams params = places;
    if (weights) params.kind = static_cast<uint32_t>(spec_.norm) + 1;
    params.width = width;
    params.input = input;
    params.weight = vector(weights.weight);
    params.bias = vector(weights.bias);
    params.kept = kept;
    params.eps = spec_.norm_eps;
    add(to, {kernel("norm", kRowLanes, {}, {"common", "quantize", "total", "norm"})}, Variant::none, params,
        1, kept, 0, false, choices);
}

// Neighbours of one layout on one page share a grid.
void Program::project(std::vector<Node>& to, std::initializer_list<Projection> all, Input input,
                      const Target& target) {
    MatvecParams params{};
    uint32_t n = 0, page = 0;
    Layout layout = Layout::f32;
    const auto finish = [&] {
        if (n == 0) return;
        const uint32_t end = params.segments[n - 1].end;
        for (uint32_t i = n; i < MatvecParams::kSegments; ++i) params.segments[i].end = end;
        add(to, product_kernels("matvec", layout), Variant::rows, params, end, target.kept, page);
        n = 0;
    };
    for (const Projection& each : all) {
        const Matrix& matrix = each.linear->weight;
        if (!matrix) continue;
        const LayoutInfo& info = layout_info(matrix.layout);
        for (const Placed& part : matrices_at_.at(matrix.data)) {
            if (n == MatvecParams::kSegments || (n && (part.page != page || matrix.layout != layout)))
                finish();
            if (n == 0) {
                page = part.page;
                layout = matrix.layout;
                params = {.segments = {},
                          .groups = matrix.n_groups(),
                          .codes = static_cast<uint32_t>(info.codes_offset(matrix.k) / kVector),
                          .tile = static_cast<uint32_t>(matrix.tile_bytes / kVector),
                          .width = matrix.k,
                          .codes_in = input.codes,
                          .floats_in = input.floats,
                          .kept = target.kept,
                          .compact = target.compact,
                          .add = target.add,
                          .scale = target.scale,
                          .softcap = target.softcap,
                          .top_k = 0,
                          .chosen = 0,
                          .by_choice = 0};
            }
            const uint32_t before = n ? params.segments[n - 1].end : 0;
            params.segments[n++] = {.base = part.base,
                                    .end = before + part.n_tiles,
                                    .first = part.first_tile * kTileRows,
                                    .rows = matrix.n,
                                    .out = each.out,
                                    .stride = each.stride,
                                    .bias = vector(each.linear->bias)};
        }
    }
    finish();
}

// x += residual_scale · post_norm(linear(input)).
void Program::add_branch(const Linear& linear, Input input, const NormWeights& post_norm, bool kept,
                         float scalar) {
    if (!post_norm && scalar == 1)
        return project(body_, {{&linear, arena_plan_.x, spec_.d_model}}, input,
                       {.kept = kept, .add = true, .scale = spec_.residual_scale});
    project(body_, {{&linear, arena_plan_.branch, spec_.d_model}}, input, {.kept = kept});
    norm(body_, post_norm, spec_.d_model, arena_plan_.branch, kept,
         {.sum = arena_plan_.x, .scale = spec_.residual_scale, .scalar = scalar});
}

void Program::attention(uint32_t layer, const AttentionLayer& mixer, bool kept) {
    const AttentionDescription a = mixer.description();
    const ArenaPlan& at = arena_plan_;
    const uint32_t q_size = a.n_heads * a.head_dim, kv_size = a.n_kv_heads * a.head_dim;
    project(body_,
            {{&a.q, at.q, q_size},
             {&a.k, at.k, kv_size},
             {&a.v, at.v, kv_size},
             {&a.gate, at.gates_of_heads, a.gate.weight.n}},
            {at.input, at.input_codes}, {.kept = layer > spec_.last_writer});
    uint32_t values = a.k_eq_v ? at.k : at.v;
    if (spec_.v_norm && a.own_cells) {
        norm(body_, {}, a.head_dim, values, false, {.kind = 1, .floats = at.v}, a.n_kv_heads);
        values = at.v;
    }
    const RowsPlan::Rope none{};
    const RowsPlan::Rope& rope = a.rope < 0 ? none : rows_plan_.ropes[static_cast<size_t>(a.rope)];
    const uint32_t ring = rows_plan_.ring(*weights_.layers[layer].mixer),
                   cells = rows_plan_.layers + 2 * layer;
    add(body_, cell_kernels("store", a.head_dim), Variant::cells,
        StoreParams{.n_heads = a.n_heads,
                    .n_kv_heads = a.n_kv_heads,
                    .head_dim = a.head_dim,
                    .half = rope.half,
                    .angles = rope.angles,
                    .sink_angles = rope.sink_angles,
                    .q = at.q,
                    .k = at.k,
                    .v = values,
                    .q_out = at.q_out,
                    .q_sink = at.q_sink,
                    .ring = ring,
                    .layer = cells,
                    .qk_norm = static_cast<uint32_t>(spec_.qk_norm),
                    .kind = static_cast<uint32_t>(spec_.norm) + 1,
                    .q_weight = vector(a.q_norm.weight),
                    .q_bias = vector(a.q_norm.bias),
                    .k_weight = vector(a.k_norm.weight),
                    .k_bias = vector(a.k_norm.bias),
                    .kept = kept,
                    .eps = spec_.norm_eps,
                    .scale = spec_.attn_scale},
        a.n_heads + (a.own_cells ? a.n_kv_heads : 0), false);
    add(body_, cell_kernels("attend", a.head_dim), Variant::cells,
        AttendParams{.n_heads = a.n_heads,
                     .n_kv_heads = a.n_kv_heads,
                     .head_dim = a.head_dim,
                     .pieces = kMaxPieces,
                     .q = at.q_out,
                     .q_sink = at.q_sink,
                     .ring = ring,
                     .layer = cells,
                     .parts = at.parts,
                     .kept = kept,
                     .softcap = spec_.attn_softcap},
        a.n_heads, kept, 0, true);
    add(body_, {kernel("join", kRowLanes, {}, {"common", "quantize", "join"})}, Variant::none,
        JoinParams{.n_heads = a.n_heads,
                   .head_dim = a.head_dim,
                   .pieces = kMaxPieces,
                   .parts = at.parts,
                   .sinks = vector(a.sinks),
                   .gate = a.gate.weight ? at.gates_of_heads : kNone,
                   .gates = a.gate.weight.n,
                   .floats = at.mixed,
                   .codes = at.mixed_codes,
                   .kept = kept},
        (q_size + kStoredColumns - 1) / kStoredColumns, kept);
    if (const NormWeights& o_norm = weights_.layers[layer].o_norm)
        norm(body_, o_norm, q_size, at.mixed, kept, {.floats = at.mixed, .codes = at.mixed_codes});
    add_branch(a.o, {at.mixed, at.mixed_codes}, weights_.layers[layer].attn_post_norm, kept);
}

void Program::short_conv(uint32_t layer, const ShortConvLayer& mixer, bool kept) {
    const ShortConvDescription conv = mixer.description();
    const ArenaPlan& at = arena_plan_;
    project(body_, {{&conv.in, at.bcx, 3 * conv.d_model}}, {at.input, at.input_codes}, {.kept = false});
    add(body_, {kernel("conv", kLanes, {}, {"common", "conv"})}, Variant::once,
        ConvParams{.width = conv.d_model,
                   .taps = conv.kernel,
                   .input = at.bcx,
                   .weight = vector(conv.conv),
                   .bias = vector(conv.bias),
                   .out = at.mixed,
                   .ring = rows_plan_.ring(*weights_.layers[layer].mixer),
                   .layer = rows_plan_.layers + 2 * layer,
                   .kept = kept},
        (conv.d_model + 63) / 64, false);
    norm(body_, weights_.layers[layer].o_norm, conv.d_model, at.mixed, kept,
         {.floats = at.mixed, .codes = at.mixed_codes});
    add_branch(conv.out, {at.mixed, at.mixed_codes}, weights_.layers[layer].attn_post_norm, kept);
}

// hidden = f(gate(input)) · up(input).
void Program::feed_forward(uint32_t layer, bool kept) {
    const ArenaPlan& at = arena_plan_;
    const FeedForward& w = weights_.layers[layer].dense;
    const uint32_t d_ff = spec_.layers[layer].d_ff;
    const Input input{at.input, at.input_codes};
    if (spec_.gated)
        project(body_, {{&w.gate, at.gate, d_ff}, {&w.up, at.up, d_ff}}, input, {.kept = kept});
    else
        project(body_, {{&w.up, at.up, d_ff}}, input, {.kept = kept});
    activate({.width = d_ff,
              .gate = spec_.gated ? at.gate : kNone,
              .up = at.up,
              .up_stride = d_ff,
              .kept = kept,
              .alpha_p = vector(w.alpha_p),
              .alpha_n = vector(w.alpha_n)});
    if (w.down_norm)
        norm(body_, w.down_norm, d_ff, at.hidden, kept, {.floats = at.hidden, .codes = at.hidden_codes});
}

// Into the hidden rows.
void Program::activate(ActivateParams params) {
    params.floats = arena_plan_.hidden;
    params.codes = arena_plan_.hidden_codes;
    add(body_,
        {kernel("activate", kRowLanes, {{"ACTIVATION", static_cast<uint32_t>(spec_.activation)}},
                {"common", "quantize", "activate"})},
        Variant::none, params, (params.width + kStoredColumns - 1) / kStoredColumns, params.kept, 0, false,
        params.choices);
}

// Of the normalised rows, each through its own top_k feed-forward parts.
void Program::experts(uint32_t layer, bool kept, float scalar) {
    const ArenaPlan& at = arena_plan_;
    const LayerWeights& w = weights_.layers[layer];
    const uint32_t n_experts = spec_.layers[layer].n_experts, d_ff = spec_.layers[layer].d_ff,
                   top_k = spec_.moe.top_k;
    const Input input{at.input, at.input_codes};
    project(body_, {{&w.router, at.scores, n_experts}}, input, {.kept = kept});
    add(body_, {kernel("route", kLanes, {}, {"common", "total", "route"})}, Variant::none,
        RouteParams{.n_experts = n_experts,
                    .top_k = top_k,
                    .normalize = spec_.moe.normalize,
                    .scores = at.scores,
                    .chosen = at.chosen,
                    .shares = at.shares,
                    .kept = kept},
        1, kept);
    if (spec_.gated)
        project_experts(layer, {{&FeedForward::gate, at.gate}, {&FeedForward::up, at.up}}, input, false,
                        kept);
    else
        project_experts(layer, {{&FeedForward::up, at.up}}, input, false, kept);
    activate({.width = d_ff,
              .gate = spec_.gated ? at.gate : kNone,
              .up = at.up,
              .up_stride = d_ff,
              .kept = kept,
              .choices = top_k});
    project_experts(layer, {{&FeedForward::down, at.choices}}, {at.hidden, at.hidden_codes}, true, kept);
    const bool apart = w.ffn_post_norm || scalar != 1;
    add(body_, {kernel("combine", kLanes, {}, {"common", "combine"})}, Variant::none,
        CombineParams{.width = spec_.d_model,
                      .top_k = top_k,
                      .input = at.choices,
                      .shares = at.shares,
                      .out = apart ? at.branch : at.x,
                      .kept = kept,
                      .add = !apart,
                      .scale = apart ? 1 : spec_.residual_scale},
        (spec_.d_model + 63) / 64, kept);
    if (apart)
        norm(body_, w.ffn_post_norm, spec_.d_model, at.branch, kept,
             {.sum = at.x, .scale = spec_.residual_scale, .scalar = scalar});
}

// Parts of all experts, which have to be alike and whole on one page.
void Program::project_experts(uint32_t layer, std::initializer_list<std::pair<ExpertPart, uint32_t>> parts,
                              Input input, bool by_choice, bool kept) {
    const std::vector<FeedForward>& experts = weights_.layers[layer].experts;
    for (const auto& [part, out] : parts) {
        const Matrix& first = (experts[0].*part).weight;
        const LayoutInfo& info = layout_info(first.layout);
        const uint32_t page = matrices_at_.at(first.data)[0].page, table = next_expert_,
                       biases = table + static_cast<uint32_t>(experts.size());
        const bool biased = (experts[0].*part).bias;
        for (const FeedForward& expert : experts) {
            const Linear& linear = expert.*part;
            const std::vector<Placed>& placed = matrices_at_.at(linear.weight.data);
            if (placed.size() > 1 || placed[0].page != page || linear.weight.layout != first.layout ||
                bool(linear.bias) != biased)
                unsupported("experts that differ in their parts, or are larger than a page");
            table_[next_expert_] = placed[0].base;
            table_[next_expert_++ + experts.size()] = vector(linear.bias);
        }
        next_expert_ += static_cast<uint32_t>(experts.size());
        MatvecParams params{.segments = {},
                            .groups = first.n_groups(),
                            .codes = static_cast<uint32_t>(info.codes_offset(first.k) / kVector),
                            .tile = static_cast<uint32_t>(first.tile_bytes / kVector),
                            .width = first.k,
                            .codes_in = input.codes,
                            .floats_in = input.floats,
                            .kept = kept,
                            .compact = 0,
                            .add = 0,
                            .scale = 1,
                            .softcap = 0,
                            .top_k = spec_.moe.top_k,
                            .chosen = arena_plan_.chosen,
                            .by_choice = by_choice};
        const uint32_t tiles = first.n_tiles();
        for (MatvecParams::Segment& segment : params.segments) segment.end = tiles;
        params.segments[0] = {.base = table,
                              .end = tiles,
                              .first = 0,
                              .rows = first.n,
                              .out = out,
                              .stride = first.n,
                              .bias = biased ? biases : kNone};
        add(body_, {product_kernels("matvec", first.layout)[0]}, Variant::none, params, tiles, kept, page,
            false, spec_.moe.top_k);
    }
}

void Program::outputs() {
    const ArenaPlan& at = arena_plan_;
    norm(hidden_, weights_.final_norm, spec_.d_model, at.x, true, {.compact = 1, .floats = at.out});
    norm(logits_, weights_.final_norm, spec_.d_model, at.x, true,
         {.floats = at.input, .codes = at.input_codes});
    project(logits_, {{&weights_.head, at.out, spec_.vocab_size}}, {at.input, at.input_codes},
            {.kept = true, .compact = true, .scale = spec_.logit_scale, .softcap = spec_.logit_softcap});
}

// ---- a pass -----------------------------------------------------------------------------------------------

void Program::fill_rows(const Part& part, uint32_t pieces, uint32_t piece_slots) {
    const auto put = [&](uint32_t at, float value) { std::memcpy(&table_[at], &value, sizeof value); };
    table_[0] = part.rows;
    table_[1] = part.rows - part.wanted;
    table_[2] = piece_slots;
    table_[3] = pieces;
    for (uint32_t i = 0; i < spec_.layers.size(); ++i) {
        const LayerRing& ring = part.layout.ring(i);
        table_[rows_plan_.layers + 2 * i] = static_cast<uint32_t>(ring.offset / sizeof(uint32_t));
        table_[rows_plan_.layers + 2 * i + 1] = ring.slots;
    }
    for (uint32_t row = 0; row < part.rows; ++row)
        table_[rows_plan_.ids + row] = part.ids ? static_cast<uint32_t>(part.ids[row]) : 0;

    const uint64_t capacity = part.layout.capacity();
    for (size_t i = 0; i < spec_.ropes.size(); ++i) {
        const RopeSpec& rope = spec_.ropes[i];
        const RowsPlan::Rope& plan = rows_plan_.ropes[i];
        const bool longer = !rope.long_inv_freq.empty() && capacity > rope.original_context;
        const std::vector<double>& frequencies = longer ? rope.long_inv_freq : rope.inv_freq;
        const auto angles = [&](uint32_t at, uint64_t position) {
            for (uint32_t d = 0; d < plan.half; ++d) {
                const double angle = static_cast<double>(position) * frequencies[d];
                put(at + d, static_cast<float>(std::cos(angle)) * static_cast<float>(rope.factor));
                put(at + plan.half + d,
                    static_cast<float>(std::sin(angle)) * static_cast<float>(rope.factor));
            }
        };
        for (uint32_t row = 0; row < part.rows; ++row)
            angles(plan.angles + row * 2 * plan.half, part.position + row);
        angles(plan.sink_angles, capacity - 1);
    }
    for (const RowsPlan::Ring& each : rows_plan_.rings) {
        const LayerRing& ring = part.layout.ring(each.layer);
        for (uint32_t row = 0; row < part.rows; ++row) {
            const uint64_t position = part.position + row, oldest = ring.oldest(position);
            std::array<uint32_t, RowsPlan::kRingWords> words{};
            words[0] = ring.slot(position);
            if (oldest <= position) {  // the ring may wrap: at most two runs of slots
                const uint64_t lap =
                    ring.sinks + ((oldest - ring.sinks) / ring.ring + 1) * uint64_t{ring.ring};
                words[1] = ring.slot(oldest);
                words[2] = words[1] + static_cast<uint32_t>(std::min(position + 1, lap) - oldest);
                if (position + 1 > lap) {
                    words[3] = ring.slot(lap);
                    words[4] = words[3] + static_cast<uint32_t>(position + 1 - lap);
                }
            }
            words[5] = static_cast<uint32_t>(std::min<uint64_t>(ring.sinks, position + 1));
            words[6] = position >= capacity;
            words[7] = static_cast<uint32_t>(std::min<uint64_t>(position, UINT32_MAX));
            std::copy(words.begin(), words.end(), table_.begin() + each.table + row * RowsPlan::kRingWords);
        }
    }
}

void Program::dispatch(const std::vector<Node>& nodes, const TextBindings& bindings, const Part& part,
                       uint32_t outputs, uint32_t pieces) {
    for (const Node& node : nodes) {
        const uint32_t rows = (node.kept ? outputs : part.rows) * node.choices;
        if (rows == 0) continue;
        size_t variant = 0;
        uint32_t y = rows;
        if (node.variant == Variant::rows) {
            while (variant + 1 < kBlockedRows.size() && kBlockedRows[variant] < rows) ++variant;
            y = (rows + kBlockedRows[variant] - 1) / kBlockedRows[variant];
        } else if (node.variant == Variant::cells) {
            variant = static_cast<size_t>(part.layout.options().type);
        } else if (node.variant == Variant::once) {
            y = 1;
        }
        dispatches_.push_back({node.kernels[variant], bindings[node.page].get(), node.params, node.x, y,
                               node.pieces ? pieces : 1});
    }
}

// The per-layer embeddings of the rows' tokens, whose table stays in the file: one tile of it a token.
void Program::write_layer_inputs(const Part& part) {
    const Matrix& table = weights_.ple_embed;
    const size_t numbers = size_t{kTileRows} * table.k;
    const float scale = spec_.ple.embed_scale * spec_.ple.scale;
    for (uint32_t row = 0; row < part.rows; ++row) {
        const uint32_t tile = (part.ids ? static_cast<uint32_t>(part.ids[row]) : 0) * kTileRows;
        for (uint32_t i = 0; i < kTileRows; ++i)
            kernels_.dequantize_row(table, tile + i, scale,
                                    &token_inputs_[row * numbers + size_t{i} * table.k]);
    }
    device_.write(*arena_, uint64_t{arena_plan_.layer_inputs} * sizeof(uint32_t),
                  std::as_bytes(std::span(token_inputs_).first(part.rows * numbers)));
}

void Program::run(const Part& part, const TextBindings& bindings, Output output, float* out) {
    assert(part.rows >= 1 && part.rows <= kPassRows);
    const uint32_t slots = part.layout.most_slots();
    const uint32_t piece =
        std::max(kPieceSlots, round_up((slots + kMaxPieces - 1) / kMaxPieces, kBlockSlots));
    const auto used = static_cast<uint32_t>(std::min<uint64_t>(part.position + part.rows, slots));
    const uint32_t pieces = (used + piece - 1) / piece;
    fill_rows(part, pieces, piece);
    device_.write(*rows_, 0, std::as_bytes(std::span(table_)));
    dispatches_.clear();
    if (part.ids)
        dispatch(embed_, bindings, part, part.wanted, pieces);
    else
        device_.write(*arena_, uint64_t{arena_plan_.x} * sizeof(uint32_t),
                      std::as_bytes(std::span(part.embeddings, size_t{part.rows} * spec_.d_model)));

    if (spec_.ple.dim) write_layer_inputs(part);
    dispatch(body_, bindings, part, part.wanted, pieces);
    const uint32_t width = output == Output::logits ? spec_.vocab_size : spec_.d_model;
    for (uint32_t done = 0; done < part.wanted;) {
        const uint32_t n = std::min(part.wanted - done, kOutputRows);
        if (part.wanted > kOutputRows) {  // these rows are the pass's last: kernels know no others
            if (!dispatches_.empty()) device_.run(dispatches_);
            dispatches_.clear();
            table_[1] = part.rows - part.wanted + done;
            table_[0] = table_[1] + n;
            device_.write(*rows_, 0, std::as_bytes(std::span(table_).first(4)));
        }
        dispatch(output == Output::logits ? logits_ : hidden_, bindings, part, n, pieces);
        device_.run(dispatches_);
        dispatches_.clear();
        device_.read(*arena_, uint64_t{arena_plan_.out} * sizeof(uint32_t),
                     std::as_writable_bytes(std::span(out + size_t{done} * width, size_t{n} * width)));
        done += n;
    }
    if (!dispatches_.empty()) device_.run(dispatches_);
}

}  // namespace edgekit::gpu
