#include "cpu/mixers/texts.h"

namespace edgekit {

Text text_at(const Step& step, uint32_t layer, uint32_t first, uint32_t out) {
    const Row& row = step.rows().row[first];
    const auto run = [&](const Rows& of, uint32_t begin) {
        uint32_t end = begin;
        while (end < of.n && of.row[end].states == row.states) ++end;
        return end - begin;
    };
    return {row, row.layout->ring(layer), first, run(step.rows(), first), out, run(step.kept(layer), out)};
}

}  // namespace edgekit
