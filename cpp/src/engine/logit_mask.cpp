#include "engine/logit_mask.h"

#include <algorithm>

namespace edgekit {

uint32_t MaskedRows::fill(std::span<const int32_t> draft) {
    if (!mask_) return static_cast<uint32_t>(draft.size());
    std::ranges::fill(rows_, 0u);
    for (uint32_t row = 0;; ++row) {
        const std::span allowed = std::span(rows_).subspan(row * words_, words_);
        mask_->fill(allowed);
        ahead_ = row;
        if (row == draft.size()) return row;
        const auto id = static_cast<uint32_t>(draft[row]);
        if (!(allowed[id / 32] >> id % 32 & 1)) return row;
        mask_->accept(draft[row]);
    }
}

void MaskedRows::keep(uint32_t kept) {
    if (mask_ && ahead_ > kept) mask_->rollback(ahead_ - kept);
    ahead_ = 0;
}

void MaskedRows::keep(uint32_t kept, int32_t id) {
    keep(kept);
    if (mask_) mask_->accept(id);
}

}  // namespace edgekit
