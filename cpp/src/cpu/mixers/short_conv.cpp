// A gated short convolution over time (LFM2): B, C, x = conv_in(h); C · conv(B · x).

#include <algorithm>

#include "backend/short_conv.h"
#include "cpu/mixers/mixers.h"
#include "cpu/step.h"

namespace edgekit {

namespace {

class ShortConv final : public Mixer, public ShortConvLayer {
public:
    ShortConv(uint32_t d_model, uint32_t kernel) : d_model_(d_model), kernel_(kernel) {}

    std::unique_ptr<const Mixer> bind(Binder& bind, const ModelSpec&,
                                      const std::string& prefix) const override {
        auto bound = std::make_unique<ShortConv>(*this);
        bound->in_ = bind.linear(prefix, "conv_in", 3 * d_model_, d_model_);
        bound->conv_ = bind.vector(prefix, "conv", d_model_ * kernel_, true);
        bound->bias_ = bind.vector(prefix, "conv_bias", d_model_, false);
        bound->out_ = bind.linear(prefix, "conv_out", d_model_, d_model_);
        return bound;
    }
    ShortConvDescription description() const override { return {d_model_, kernel_, in_, out_, conv_, bias_}; }
    // A cell: B · x.
    LayerRing ring(const CacheOptions& options) const override {
        LayerRing ring;
        ring.local = true;
        ring.window = kernel_;
        ring.ring = ring.slots = kernel_ - 1 + options.chunk;
        ring.key_bytes = round_up64(uint64_t{d_model_} * sizeof(float));
        return ring;
    }
    uint32_t width() const override { return d_model_; }
    const Linear& out() const override { return out_; }
    Bytes bytes(const WorkspaceShape& shape) const override {
        return {.shared = size_t{shape.rows} * 3 * d_model_ * sizeof(float)};
    }

    void run(Step& step, uint32_t layer, const Activations& input, float* out) const override {
        auto* projected = reinterpret_cast<float*>(step.memory.mixer);  // [rows][B, C, x]
        step.project(in_, input, {.out = projected, .stride = size_t{3} * d_model_});
        step.barrier();
        const auto bcx = [&](const Row& row) { return projected + size_t{row.place} * 3 * d_model_; };
        const auto cell = [&](const Row& row, uint32_t back) {
            return row.sequence->cell(row.layout->ring(layer), row.position - back);
        };
        const Rows &rows = step.rows(), &kept = step.kept(layer);
        step.for_units(round_up(d_model_, kGroup) / kGroup, [&](uint32_t first, uint32_t last) {
            const uint32_t from = first * kGroup, to = std::min(last * kGroup, d_model_);
            for (uint32_t i = 0; i < rows.n; ++i) {
                const float* b = bcx(rows.row[i]);
                float* now = cell(rows.row[i], 0);
                for (uint32_t c = from; c < to; ++c) now[c] = b[c] * b[2 * d_model_ + c];
            }
            for (uint32_t i = 0; i < kept.n; ++i) {
                const Row& row = kept.row[i];
                float* y = out + size_t{i} * d_model_;
                for (uint32_t c = from; c < to; ++c) y[c] = bias_ ? bias_[c] : 0.0f;
                for (uint32_t tap = 0; tap < kernel_ && tap <= row.position; ++tap) {
                    const float* past = cell(row, tap);
                    for (uint32_t c = from; c < to; ++c)
                        y[c] += conv_[size_t{c} * kernel_ + kernel_ - 1 - tap] * past[c];
                }
                for (uint32_t c = from; c < to; ++c) y[c] *= bcx(row)[d_model_ + c];
            }
        });
        step.barrier();
    }

private:
    uint32_t d_model_, kernel_;
    Linear in_, out_;              // [3·d_model, d_model], [d_model, d_model]
    const float* conv_ = nullptr;  // [d_model, kernel]
    const float* bias_ = nullptr;  // [d_model] or nullptr
};

std::unique_ptr<const Mixer> parse(const json::Value& layer, const ModelSpec& spec) {
    return std::make_unique<ShortConv>(spec.d_model, count_at(layer, "conv_kernel", 1, 64));
}

}  // namespace

const MixerKind kShortConv{"conv", parse};

}  // namespace edgekit
