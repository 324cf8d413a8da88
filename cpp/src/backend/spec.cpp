#include "backend/spec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "error.h"

namespace edgekit {

namespace {

constexpr int64_t kSpecVersion = 1;
// Bounds that keep every product of sizes far from overflow; real models lie well inside.
constexpr int64_t kMaxLayers = 1024, kMaxWidth = 1 << 20, kMaxRope = 1024, kMaxVocab = 1 << 24,
                  kMaxExperts = 1024, kMaxPerLayer = 4096;

template <class T, size_t N>
using Words = std::array<std::pair<std::string_view, T>, N>;

constexpr Words<Norm, 2> kNorms = {{{"rms", Norm::rms}, {"layer", Norm::layer}}};
constexpr Words<QkNorm, 5> kQkNorms = {{{"none", QkNorm::none},
                                        {"head", QkNorm::head},
                                        {"full", QkNorm::full},
                                        {"layer_per_head", QkNorm::layer_per_head},
                                        {"head_after_rope", QkNorm::head_after_rope}}};
constexpr Words<AttnGate, 3> kAttnGates = {
    {{"none", AttnGate::none}, {"head", AttnGate::head}, {"full", AttnGate::full}}};
constexpr Words<RouterScore, 2> kRouterScores = {
    {{"softmax", RouterScore::softmax}, {"sigmoid", RouterScore::sigmoid}}};
constexpr Words<Activation, 7> kActivations = {{{"silu", Activation::silu},
                                                {"gelu", Activation::gelu},
                                                {"gelu_tanh", Activation::gelu_tanh},
                                                {"relu", Activation::relu},
                                                {"relu2", Activation::relu2},
                                                {"xielu", Activation::xielu},
                                                {"swiglu_oai", Activation::swiglu_oai}}};

[[noreturn]] void unknown(std::string_view key, const std::string& word) {
    throw Error(Status::unsupported, "the model's " + std::string(key) + " is '" + word +
                                         "', which this version of edgekit does not know");
}

template <class T, size_t N>
T word(const json::Value& value, std::string_view key, const Words<T, N>& words) {
    const std::string& text = value.string_at(key);
    for (const auto& [name, result] : words)
        if (name == text) return result;
    unknown(key, text);
}

float real(const json::Value& value, std::string_view key) {
    const double number = value.double_at(key);
    if (!std::isfinite(number))
        throw Error(Status::invalid_file, "the model's " + std::string(key) + " is not a finite number");
    return static_cast<float>(number);
}

std::vector<double> reals(const json::Array& values, size_t size) {
    std::vector<double> out;
    for (const auto& value : values) out.push_back(value.as_double("inv_freq"));
    if (out.size() != size)
        throw Error(Status::invalid_file, "a rotary embedding has " + std::to_string(out.size()) +
                                              " frequencies, its dimension needs " + std::to_string(size));
    return out;
}

RopeSpec parse_rope(const json::Value& value) {
    RopeSpec rope;
    rope.dim = count_at(value, "dim", 2, kMaxRope);
    if (rope.dim % 2)
        throw Error(Status::invalid_file, "a rotary dimension is odd: " + std::to_string(rope.dim));
    rope.inv_freq = reals(value.array_at("inv_freq"), rope.dim / 2);
    rope.factor = real(value, "factor");
    if (const auto* longer = value.find("long_inv_freq")) {
        rope.long_inv_freq = reals(longer->as_array("long_inv_freq"), rope.dim / 2);
        rope.original_context = count_at(value, "original_context", 1, int64_t{1} << 31);
    }
    return rope;
}

int32_t read_kv_layer(const json::Value& value, const LayerSpec& layer, const ModelSpec& spec) {
    const auto index = static_cast<int32_t>(count_at(value, "kv_layer", 0, kMaxLayers));
    constexpr CacheOptions any{.window = 64, .sinks = 0, .chunk = 16, .type = KvType::f32};
    const bool earlier = static_cast<size_t>(index) < spec.layers.size() && spec.layers[index].kv_layer < 0;
    if (!earlier || layer.mixer->ring(any).state_bytes ||
        spec.layers[index].mixer->ring(any) != layer.mixer->ring(any))
        throw Error(Status::invalid_file, "layer " + std::to_string(spec.layers.size()) +
                                              " cannot read the keys and values of layer " +
                                              std::to_string(index) +
                                              ", which has none of its own like it before it");
    return index;
}

LayerSpec parse_layer(const json::Value& value, const ModelSpec& spec) {
    know(value, "layer",
         {"mixer", "n_heads", "n_kv_heads", "head_dim", "rope", "window", "d_ff", "n_experts", "conv_kernel",
          "parallel", "beside", "kv_layer", "k_eq_v", "recurrence", "rwkv", "latent"});
    LayerSpec layer;
    const std::string& name = value.string_at("mixer");
    for (const MixerKind& kind : mixer_kinds())
        if (kind.name == name) layer.mixer = kind.parse(value, spec);
    if (!layer.mixer) unknown("mixer", name);
    layer.parallel = value.bool_at("parallel");
    layer.d_ff = count_at(value, "d_ff", 0, kMaxWidth);
    layer.n_experts = count_at(value, "n_experts", 0, kMaxExperts);
    if (const auto* beside = value.find("beside")) layer.beside = beside->as_bool("beside");
    if (layer.beside && layer.d_ff)
        throw Error(Status::invalid_file,
                    "a layer whose mixer stands beside the next one's has a feed-forward part of its own");
    if (!spec.layers.empty() && spec.layers.back().beside && (layer.beside || layer.parallel))
        throw Error(
            Status::unsupported,
            "a layer stands beside the one before it, and beside another or its own feed-forward part");
    if (!layer.d_ff && (layer.parallel || layer.n_experts))
        throw Error(Status::invalid_file,
                    "a layer has a parallel residual or experts, but no width of its feed-forward part");
    if (value.find("kv_layer")) layer.kv_layer = read_kv_layer(value, layer, spec);
    return layer;
}

MoeSpec parse_moe(const json::Value& value) {
    know(value, "moe", {"top_k", "normalize", "score", "scale", "d_shared", "shared_gate", "own_norms"});
    MoeSpec moe{.top_k = count_at(value, "top_k", 1, kMaxExperts), .normalize = value.bool_at("normalize")};
    if (value.find("score")) moe.score = word(value, "score", kRouterScores);
    if (value.find("scale")) moe.scale = real(value, "scale");
    if (value.find("d_shared")) moe.d_shared = count_at(value, "d_shared", 0, kMaxWidth);
    if (const auto* gate = value.find("shared_gate")) moe.shared_gate = gate->as_bool("shared_gate");
    if (const auto* own = value.find("own_norms")) moe.own_norms = own->as_bool("own_norms");
    if (moe.own_norms && (!moe.d_shared || moe.shared_gate))
        throw Error(Status::unsupported,
                    "the model's experts have norms of their own, but no shared one without a gate");
    return moe;
}

PerLayerEmbeddingSpec parse_ple(const json::Value& value) {
    const uint32_t dim = count_at(value, "dim", 1, kMaxPerLayer);
    if (dim % kTileRows)
        throw Error(Status::invalid_file, "a per-layer embedding has " + std::to_string(dim) +
                                              " numbers; a multiple of 16 is expected");
    return {dim, real(value, "proj_scale"), real(value, "embed_scale"), real(value, "scale")};
}

}  // namespace

void know(const json::Value& value, std::string_view what, std::initializer_list<std::string_view> members) {
    for (const auto& [name, ignored] : value.as_object(what))
        if (std::ranges::find(members, name) == members.end())
            throw Error(Status::unsupported, "the model's description has a member '" + name + "' in its " +
                                                 std::string(what) +
                                                 ", which this version of edgekit does not know: update it");
}

uint32_t count_at(const json::Value& value, std::string_view key, int64_t low, int64_t high) {
    return static_cast<uint32_t>(value.at(key).as_int_in(low, high, key));
}

ModelSpec ModelSpec::parse(const json::Value& value) {
    if (value.int_at("version") != kSpecVersion)
        throw Error(Status::unsupported,
                    "the model's description has version " + std::to_string(value.int_at("version")) +
                        ", this edgekit reads " + std::to_string(kSpecVersion) + ": update edgekit");
    know(value, "spec",
         {"version",     "model_type", "vocab_size",   "d_model",       "context",     "layers",
          "ropes",       "norm",       "norm_eps",     "activation",    "gated",       "qk_norm",
          "v_norm",      "attn_scale", "attn_softcap", "logit_softcap", "embed_scale", "residual_scale",
          "logit_scale", "tied",       "moe",          "ple",           "attn_gate"});
    ModelSpec spec;
    spec.model_type = value.string_at("model_type");
    spec.vocab_size = count_at(value, "vocab_size", 1, kMaxVocab);
    spec.d_model = count_at(value, "d_model", 1, kMaxWidth);
    spec.context = count_at(value, "context", 0, int64_t{1} << 31);
    spec.norm = word(value, "norm", kNorms);
    spec.norm_eps = real(value, "norm_eps");
    spec.activation = word(value, "activation", kActivations);
    spec.gated = value.bool_at("gated");
    if (spec.gated ? spec.activation == Activation::xielu : spec.activation == Activation::swiglu_oai)
        throw Error(Status::unsupported, "the model's activation is " + value.string_at("activation") +
                                             (spec.gated ? ", which has no gate" : ", which needs a gate"));
    spec.qk_norm = word(value, "qk_norm", kQkNorms);
    if (value.find("attn_gate")) spec.attn_gate = word(value, "attn_gate", kAttnGates);
    spec.attn_scale = real(value, "attn_scale");
    spec.attn_softcap = real(value, "attn_softcap");
    spec.logit_softcap = real(value, "logit_softcap");
    spec.embed_scale = real(value, "embed_scale");
    spec.residual_scale = real(value, "residual_scale");
    spec.logit_scale = real(value, "logit_scale");
    spec.tied = value.bool_at("tied");
    if (const auto* moe = value.find("moe")) spec.moe = parse_moe(*moe);
    if (const auto* v_norm = value.find("v_norm")) spec.v_norm = v_norm->as_bool("v_norm");
    if (const auto* ple = value.find("ple")) spec.ple = parse_ple(*ple);
    for (const auto& rope : value.array_at("ropes")) spec.ropes.push_back(parse_rope(rope));
    const json::Array& layers = value.array_at("layers");
    if (layers.empty() || layers.size() > static_cast<size_t>(kMaxLayers))
        throw Error(Status::invalid_file, "the model has " + std::to_string(layers.size()) + " layers");
    for (const auto& layer : layers) {
        spec.layers.push_back(parse_layer(layer, spec));
        if (spec.layers.back().kv_layer < 0) spec.last_writer = static_cast<uint32_t>(spec.layers.size()) - 1;
        const uint32_t experts = spec.layers.back().n_experts;
        if (experts && spec.layers.back().parallel)
            throw Error(Status::unsupported,
                        "the model mixes experts with a parallel residual, which this version of edgekit "
                        "does not have");
        if (experts && (spec.moe.top_k == 0 || spec.moe.top_k > experts))
            throw Error(Status::invalid_file, "a layer has " + std::to_string(experts) +
                                                  " experts, of which " + std::to_string(spec.moe.top_k) +
                                                  " are to be chosen");
    }
    if (spec.layers.back().beside)
        throw Error(Status::invalid_file, "no layer follows the last one's mixer, which stands beside it");
    return spec;
}

}  // namespace edgekit
