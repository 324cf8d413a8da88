#pragma once
// What computes. A Backend is a model's: its weights, wherever they have to lie, and what runs over them. A
// Context is a text's: the cells of its cache. Which cells a position has, how far a text may be taken back
// and where it stands is the session's to know (CacheLayout), the same over every backend.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "backend/cache_layout.h"
#include "backend/spec.h"
#include "backend/weights.h"
#include "edgekit/edgekit.h"
#include "error.h"
#include "kernels/kernels.h"

namespace edgekit {

// The cells of one text. In use by one thread at a time; ranges are CacheLayout's.
class Context {
public:
    virtual ~Context() = default;

    // Calls put with the bytes of `range`, in order, in one piece or several.
    using Put = std::function<void(std::span<const std::byte>)>;
    virtual void save_cells(CellRange range, const Put& put) const = 0;
    virtual void load_cells(CellRange range, const std::byte* bytes) = 0;
    // Every cell of a context of the same backend and layout.
    virtual void copy_cells(const Context& from) = 0;
};

// Where a pass finds and leaves the states of recurrent layers: indices of what LayerRing::state places.
struct StateStep {
    uint32_t from = 0;      // the state at the position of the first row, or
    uint32_t replayed = 0;  // so many rows before it: their inputs are in the ring
    uint32_t to = 0;        // after the last row; may be `from`
    uint32_t between = 0;   // another state, as it is
    uint32_t after = 0;     // so many rows before the end; 0: is not wanted
};

// What one text brings to a pass.
struct Part {
    Context& context;
    const CacheLayout& layout;          // the one the context was opened with, its sinks as they are now
    uint64_t position;                  // of the first row
    uint32_t rows;                      // 1 … the layout's chunk
    const int32_t* ids;                 // [rows], below vocab_size; or nullptr and
    const float* embeddings = nullptr;  // [rows][d_model], as the first layer reads them
    uint32_t wanted = 0;                // of the last rows, for which there is to be an output
    StateStep states{};
};

// Rows of vocab_size, or of d_model: what the last norm gives.
enum class Output : uint8_t { logits, hidden };

// Whether a pass should be given up, asked by the thread that called forward, at least once in a layer;
// empty: never.
using GiveUp = std::function<bool()>;

// What a backend computes on is gone, or has refused a pass: another may go on with the text.
class BackendFailure : public Error {
public:
    explicit BackendFailure(const std::string& message) : Error(Status::internal, message) {}
};

class Backend {
public:
    virtual ~Backend() = default;

    virtual uint32_t threads() const = 0;
    // Of the processor that it runs on, or beside: what samples uses them too.
    virtual const Kernels& kernels() const = 0;
    // Memory for one text, all cells zero. Throws Error(out_of_memory), Error(unsupported) for a type of
    // cells that it has not, BackendFailure.
    virtual std::unique_ptr<Context> open(const CacheLayout& layout) = 0;
    // One pass over the next rows of one or several texts, each its own context: their cells are written, and
    // the outputs that are wanted into rows of `out`, in the order of the parts. What a row gives does not
    // depend on the company it has. Allocates nothing, unless there are more rows than any context's chunk.
    // False when the pass was given up: cells of the rows' positions are then undefined, all others are not.
    // Throws BackendFailure.
    virtual bool forward(std::span<const Part> parts, Output output, float* out, const GiveUp& give_up) = 0;
};

// What is allocated for a text, in bytes.
struct ContextBytes {
    uint64_t cache = 0;
    uint64_t shared = 0;  // by all texts of a backend: as much as the one that needs most
};

// A backend before there is a model: one constant in its folder.
struct BackendKind {
    const char* name;
    // For n_threads threads; 0: as many as it would take by itself.
    ContextBytes (*measure)(const ModelSpec& spec, const Weights& weights, const CacheLayout& layout,
                            uint32_t n_threads);
    // The spec and the weights must outlive it. Throws Error(unsupported) for what it cannot run, and for
    // options that ask for what this machine has not, BackendFailure for a model that another may run.
    std::unique_ptr<Backend> (*open)(const ModelSpec& spec, const Weights& weights,
                                     const edgekit_model_options& options);
};

extern const BackendKind kCpuBackend;
extern const BackendKind kGpuBackend;  // in builds with EDGEKIT_GPU

}  // namespace edgekit
