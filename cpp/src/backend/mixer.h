#pragma once
// A layer kind: how a layer mixes what stands at different positions of a text. One object is one layer: what
// the spec says of it, and its weights once they are bound.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cache_layout.h"
#include "format/json.h"

namespace edgekit {

class Binder;
class Step;
struct Activations;
struct Linear;
struct ModelSpec;

// What the processor's passes are made for: the largest of the texts that share a workspace.
struct WorkspaceShape {
    uint32_t rows = 0;   // of a pass
    uint32_t slots = 0;  // of a layer's ring
};

class Mixer {
public:
    virtual ~Mixer() = default;

    // A copy with its weights, whose names begin with `prefix`. Throws Error(invalid_file) for one that is
    // missing or has another shape.
    virtual std::unique_ptr<const Mixer> bind(Binder& bind, const ModelSpec& spec,
                                              const std::string& prefix) const = 0;
    // What it keeps of a text, all but the place. The session saves, copies and takes back by this alone.
    virtual LayerRing ring(const CacheOptions& options) const = 0;

    // On the processor, once it is bound:
    // Numbers in a row of what it makes.
    virtual uint32_t width() const = 0;
    // From there to the residual stream: [d_model, width].
    virtual const Linear& out() const = 0;
    // Memory of a pass beside the rows that it reads and makes.
    struct Bytes {
        size_t shared = 0;
        size_t thread = 0;  // for each one
    };
    virtual Bytes bytes(const WorkspaceShape& shape) const = 0;
    // Takes the rows of the step, normalised, into the cells of their texts, and writes a row of width() for
    // each of those that the layer keeps (Step::kept). Ends with a barrier.
    virtual void run(Step& step, uint32_t layer, const Activations& input, float* out) const = 0;
};

struct MixerKind {
    std::string_view name;  // "mixer" of a layer in the spec
    // Reads a layer's description. Throws Error(invalid_file) for values out of range.
    std::unique_ptr<const Mixer> (*parse)(const json::Value& layer, const ModelSpec& spec);
};

// Every kind there is; a program may add its own before it opens a model.
std::vector<MixerKind>& mixer_kinds();

}  // namespace edgekit
