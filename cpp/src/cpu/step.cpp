#include "cpu/step.h"

#include <algorithm>

namespace edgekit {

void Step::keep(uint32_t layer) {
    const Rows& kept = this->kept(layer);
    if (kept.n != m()) {
        if (thread == 0)
            for (uint32_t row = 0; row < kept.n; ++row)
                std::copy_n(memory.x + size_t{kept.row[row].place} * spec.d_model, spec.d_model,
                            memory.x + size_t{row} * spec.d_model);
        barrier();
    }
    rows_ = &kept;
}

bool Step::given_up() {
    if (thread == 0 && give_up_ && give_up_() && memory.last_look == kNever) memory.last_look = looks_ + 1;
    return looks_++ >= memory.last_look;
}

void Step::norm(Norm kind, const NormWeights& weights, const float* x, uint32_t n, float* out) const {
    if (kind == Norm::rms)
        kernels.rms_norm(x, weights.weight, n, spec.norm_eps, out);
    else
        kernels.layer_norm(x, weights.weight, weights.bias, n, spec.norm_eps, out);
}

Activations Step::prepare(const NormWeights& weights, const float* source, uint32_t width) {
    const bool alone = m() == 1;
    const PreparedRows& to = alone ? scratch.row : memory.input;
    const uint32_t groups = row_groups(width);
    const auto prepare_rows = [&](uint32_t first, uint32_t last) {
        for (size_t row = first; row < last; ++row) {
            float* x = to.x + row * width;
            if (weights)
                norm(spec.norm, weights, source + row * width, width, x);
            else
                std::copy_n(source + row * width, width, x);
            kernels.quantize(x, width, 1, width, to.codes + row * groups * kGroup, to.groups + row * groups);
        }
    };
    if (alone) {
        prepare_rows(0, 1);
    } else {
        for_units(m(), prepare_rows);
        barrier();
    }
    return {to.x, width, to.codes, to.groups, m()};
}

void Step::apply(const Linear& linear, const Activations& input, Store to, uint32_t first_tile,
                 uint32_t last_tile) {
    to.bias = linear.bias;
    kernels.matmul(linear.weight, input, to, first_tile, last_tile, scratch.matmul);
}

void Step::project(const Linear& linear, const Activations& input, const Store& to) {
    for_units(linear.weight.n_tiles(),
              [&](uint32_t first, uint32_t last) { apply(linear, input, to, first, last); });
}

void Step::project(std::initializer_list<Product> products) {
    const auto tiles_of = [](const Product& product) {
        return product.input.m && product.linear.weight ? product.linear.weight.n_tiles() : 0;
    };
    uint32_t n_tiles = 0;
    for (const Product& product : products) n_tiles += tiles_of(product);
    for_units(n_tiles, [&](uint32_t first, uint32_t last) {
        uint32_t before = 0;
        for (const Product& product : products) {
            const uint32_t tiles = tiles_of(product);
            const uint32_t begin = std::max(first, before), end = std::min(last, before + tiles);
            if (begin < end) apply(product.linear, product.input, product.to, begin - before, end - before);
            before += tiles;
        }
    });
}

void Step::add_to_residual(const Linear& linear, const Activations& input, const NormWeights& post_norm,
                           float scalar) {
    const bool apart = post_norm || scalar != 1;
    Store to{.out = memory.x, .stride = spec.d_model, .scale = spec.residual_scale, .add = true};
    if (apart) to = {.out = memory.branch, .stride = spec.d_model};
    project(linear, input, to);
    barrier();
    if (apart) add_branch(post_norm, scalar);
}

void Step::add_branch(const NormWeights& post_norm, float scalar) {
    for_units(m(), [&](uint32_t first, uint32_t last) {
        for (size_t row = first; row < last; ++row) {
            float *x = memory.x + row * spec.d_model, *branch = memory.branch + row * spec.d_model;
            if (post_norm) norm(spec.norm, post_norm, branch, spec.d_model, branch);
            kernels.add(x, branch, spec.residual_scale, spec.d_model);
            for (uint32_t i = 0; scalar != 1 && i < spec.d_model; ++i) x[i] *= scalar;
        }
    });
    barrier();
}

}  // namespace edgekit
