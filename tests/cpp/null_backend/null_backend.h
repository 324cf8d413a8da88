#pragma once
// A backend that computes nothing: what a token's logits are follows from the ids that the token may see.
// They are kept where the layout has the cells of every layer, so that a cell which is lost, moved or left
// over from another text gives another text. This folder is what a backend costs.

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace edgekit {

class NullContext final : public Context {
public:
    explicit NullContext(const CacheLayout& layout) : cells_(layout.bytes()) {}

    void save_cells(CellRange range, const Put& put) const override {
        const auto all = std::span(cells_).subspan(range.offset, range.size);
        put(all.first(all.size() / 2));  // in more than one piece, as a backend may
        put(all.subspan(all.size() / 2));
    }
    void load_cells(CellRange range, const std::byte* bytes) override {
        std::copy_n(bytes, range.size, cells_.begin() + static_cast<ptrdiff_t>(range.offset));
    }
    void copy_cells(const Context& from) override { cells_ = static_cast<const NullContext&>(from).cells_; }

    void put(const LayerRing& ring, uint64_t position, int32_t id) {
        std::memcpy(at(ring, position), &id, sizeof id);
    }
    int32_t get(const LayerRing& ring, uint64_t position) {
        int32_t id = 0;
        std::memcpy(&id, at(ring, position), sizeof id);
        return id;
    }

private:
    std::byte* at(const LayerRing& ring, uint64_t position) {
        const uint32_t slot = ring.slot(position);
        return &cells_[ring.keys(0) + slot / ring.block * ring.key_bytes +
                       slot % ring.block * sizeof(int32_t)];
    }

    std::vector<std::byte> cells_;
};

class NullBackend final : public Backend {
public:
    explicit NullBackend(const ModelSpec& spec) : spec_(spec) {}

    uint32_t threads() const override { return 1; }
    const Kernels& kernels() const override { return *find_kernels(nullptr); }
    std::unique_ptr<Context> open(const CacheLayout& layout) override {
        return std::make_unique<NullContext>(layout);
    }
    bool forward(std::span<const Part> parts, Output, float* out, const GiveUp& give_up) override {
        for (const Part& part : parts) {
            auto& context = static_cast<NullContext&>(part.context);
            for (uint32_t layer = 0; layer < spec_.layers.size(); ++layer) {
                if (give_up && give_up()) return false;
                for (uint32_t row = 0; row < part.rows; ++row)
                    context.put(part.layout.ring(layer), part.position + row, part.ids[row]);
            }
            for (uint32_t i = 0; i < part.wanted; ++i, out += spec_.vocab_size)
                logits(context, part.layout, part.position + part.rows - part.wanted + i, out);
        }
        return true;
    }

private:
    static uint64_t mixed(uint64_t hash, uint64_t value) {
        hash = (hash ^ value) * 0x9E3779B97F4A7C15;
        return hash ^ hash >> 29;
    }
    // Numbers in [0, 4), a little higher for what can be printed.
    void logits(NullContext& context, const CacheLayout& layout, uint64_t position, float* out) const {
        uint64_t seen = position;
        for (uint32_t layer = 0; layer < spec_.layers.size(); ++layer) {
            const LayerRing& ring = layout.ring(layer);
            for (uint64_t sink = 0; sink < std::min<uint64_t>(ring.sinks, position + 1); ++sink)
                seen = mixed(seen, static_cast<uint64_t>(context.get(ring, sink)));
            for (uint64_t past = ring.oldest(position); past <= position; ++past)
                seen = mixed(seen, static_cast<uint64_t>(context.get(ring, past)));
        }
        for (uint32_t id = 0; id < spec_.vocab_size; ++id)
            out[id] =
                static_cast<float>(mixed(seen, id) >> 40) * 0x1p-22f + (id >= 32 && id < 127 ? 1.0f : 0.0f);
    }

    const ModelSpec& spec_;
};

inline const BackendKind kNullBackend{
    .name = "null",
    .measure = [](const ModelSpec&, const Weights&, const CacheLayout& layout, uint32_t) -> ContextBytes {
        return {.cache = layout.bytes()};
    },
    .open = [](const ModelSpec& spec, const Weights&, const edgekit_model_options&)
        -> std::unique_ptr<Backend> { return std::make_unique<NullBackend>(spec); }};

}  // namespace edgekit
