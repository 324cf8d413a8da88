#include "backend/weights.h"

#include <string>

#include "error.h"

namespace edgekit {

namespace {

[[noreturn]] void missing(const std::string& name) {
    throw Error(Status::invalid_file,
                "the package has no tensor '" + name + "', which its model needs: convert it again");
}

// `beside`: the layer before, whose mixer reads what this one's does.
LayerWeights bind_layer(Binder& bind, const ModelSpec& spec, const LayerSpec& layer,
                        const std::string& prefix, const LayerWeights* beside) {
    LayerWeights w;
    w.attn_norm = beside ? beside->attn_norm : bind.norm(prefix, "attn_norm", spec.d_model);
    w.attn_post_norm = bind.norm(prefix, "attn_post_norm", spec.d_model);
    w.ffn_norm = bind.norm(prefix, "ffn_norm", spec.d_model);
    w.ffn_post_norm = bind.norm(prefix, "ffn_post_norm", spec.d_model);
    w.mixer = layer.mixer->bind(bind, spec, prefix);
    w.o_norm = bind.norm(prefix, "o_norm", w.mixer->width());
    if (layer.n_experts) {
        w.router = bind.linear(prefix, "router", layer.n_experts, spec.d_model);
        w.router_choice = bind.vector(prefix, "router_choice", layer.n_experts, false);
        for (uint32_t e = 0; e < layer.n_experts; ++e)
            w.experts.push_back(
                bind.feed_forward(prefix + "experts." + std::to_string(e) + ".", spec, layer.d_ff));
        w.router_scale = bind.vector(prefix + "router_scale", layer.n_experts, false);
        if (spec.moe.own_norms) {
            w.router_norm = bind.norm(prefix + "router_norm", spec.d_model, true);
            w.experts_norm = bind.norm(prefix + "experts_norm", spec.d_model, true);
            w.experts_post_norm = bind.norm(prefix + "experts_post_norm", spec.d_model, true);
            w.shared_post_norm = bind.norm(prefix + "shared_post_norm", spec.d_model, true);
        }
        if (spec.moe.d_shared) w.dense = bind.feed_forward(prefix + "shared.", spec, spec.moe.d_shared);
        if (spec.moe.shared_gate) w.shared_gate = bind.linear(prefix, "shared_gate", 1, spec.d_model);
    } else if (layer.d_ff) {
        w.dense = bind.feed_forward(prefix, spec, layer.d_ff);
        w.dense.down_norm = bind.norm(prefix, "down_norm", layer.d_ff);
    }
    if (spec.ple.dim) {
        w.ple.gate = bind.linear(prefix, "ple_gate", spec.ple.dim, spec.d_model);
        w.ple.down = bind.linear(prefix, "ple_out", spec.d_model, spec.ple.dim);
        w.ple_post_norm = bind.norm(prefix, "ple_post_norm", spec.d_model);
    }
    w.scalar = bind.vector(prefix, "scalar", 1, false);
    return w;
}

}  // namespace

Matrix Binder::matrix(const std::string& name, uint32_t n, uint32_t k) {
    const Matrix found = table(name, n, k);
    weights_.bytes += found.n_tiles() * found.tile_bytes;
    return found;
}

Matrix Binder::table(const std::string& name, uint32_t n, uint32_t k) {
    const Matrix found = file_.matrix(name, n, k);
    if (!found) missing(name);
    found_.insert(name);
    weights_.n_parameters += uint64_t{n} * k;
    return found;
}

const float* Binder::vector(const std::string& name, uint32_t n, bool required) {
    const float* found = file_.vector(name, n);
    if (!found && required) missing(name);
    if (found) {
        found_.insert(name);
        weights_.bytes += round_up64(uint64_t{n} * 4);
        weights_.n_parameters += n;
    }
    return found;
}

Linear Binder::linear(const std::string& name, uint32_t n, uint32_t k) {
    return {matrix(name, n, k), vector(name + "_bias", n, false)};
}

NormWeights Binder::norm(const std::string& name, uint32_t n, bool required) {
    return {vector(name, n, required), vector(name + "_bias", n, false)};
}

const float* Binder::vector(const std::string& prefix, const char* part, uint32_t n, bool required) {
    return vector(prefix + part, n, required);
}

Linear Binder::linear(const std::string& prefix, const char* part, uint32_t n, uint32_t k) {
    return linear(prefix + part, n, k);
}

NormWeights Binder::norm(const std::string& prefix, const char* part, uint32_t n, bool required) {
    return norm(prefix + part, n, required);
}

FeedForward Binder::feed_forward(const std::string& prefix, const ModelSpec& spec, uint32_t d_ff) {
    FeedForward ffn;
    if (spec.gated) ffn.gate = linear(prefix, "gate", d_ff, spec.d_model);
    ffn.up = linear(prefix, "up", d_ff, spec.d_model);
    ffn.down = linear(prefix, "down", spec.d_model, d_ff);
    if (spec.activation == Activation::xielu) {
        ffn.alpha_p = vector(prefix, "alpha_p", 1, true);
        ffn.alpha_n = vector(prefix, "alpha_n", 1, true);
    }
    return ffn;
}

void Binder::check_all_found() const {
    for (const std::string& name : file_.names())
        if (name.starts_with("layers.") && !found_.contains(name))
            throw Error(Status::unsupported, "the package has a tensor '" + name +
                                                 "', which this version of edgekit does not know: update it");
}

Weights::Weights(const ModelSpec& spec, const EdgeFile& file) {
    Binder bind(file, *this);
    embed = bind.matrix("embed", spec.vocab_size, spec.d_model);
    embed_norm = bind.norm("embed_norm", spec.d_model);
    if (spec.ple.dim) {
        const auto numbers = static_cast<uint32_t>(spec.layers.size()) * spec.ple.dim;
        ple_embed = bind.table("ple_embed", spec.vocab_size * kTileRows, numbers / kTileRows);
        ple_proj = bind.linear("ple_proj", numbers, spec.d_model);
        ple_norm = bind.norm("ple_norm", spec.ple.dim, true);
    }
    for (size_t i = 0; i < spec.layers.size(); ++i) {
        const bool beside = i > 0 && spec.layers[i - 1].beside;
        layers.push_back(bind_layer(bind, spec, spec.layers[i], "layers." + std::to_string(i) + ".",
                                    beside ? &layers.back() : nullptr));
    }
    final_norm = bind.norm("final_norm", spec.d_model, true);
    head.weight = spec.tied ? embed : bind.matrix("head", spec.vocab_size, spec.d_model);
    head.bias = bind.vector("head_bias", spec.vocab_size, false);
    bind.check_all_found();
}

}  // namespace edgekit
