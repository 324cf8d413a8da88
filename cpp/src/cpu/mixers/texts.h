#pragma once
// The texts of a pass, for layers that keep a state of each.

#include "cpu/step.h"

namespace edgekit {

// The rows of one text.
struct Text {
    const Row& row;  // the first
    const LayerRing& ring;
    uint32_t first, n;
    uint32_t out, kept;  // the last `kept` have an output, rows of `out` on

    // Where the state lies that it begins with; rows from there on are taken in again.
    uint64_t since() const { return row.position - row.states->replayed; }
    float* state(uint32_t index) const { return row.sequence->state(ring, index); }
    float* cell(uint64_t position) const { return row.sequence->cell(ring, position); }
};

// The text whose first row is `first`, and its first row with an output `out`.
Text text_at(const Step& step, uint32_t layer, uint32_t first, uint32_t out);

template <class F>
void for_texts(const Step& step, uint32_t layer, F&& f) {
    for (uint32_t first = 0, out = 0; first < step.rows().n;) {
        const Text text = text_at(step, layer, first, out);
        f(text);
        first += text.n;
        out += text.kept;
    }
}

}  // namespace edgekit
