#pragma once
// Which tokens may follow, for texts that keep to a form: JSON, a grammar, a list of words.

#include <cstdint>
#include <span>
#include <vector>

namespace edgekit {

// What is allowed depends on the tokens accepted so far. Nothing here may allocate once it is warm, or throw.
class LogitMask {
public:
    virtual ~LogitMask() = default;
    // Sets bit id % 32 of word id / 32 for every token that may follow; all are 0. At least one must be set.
    virtual void fill(std::span<uint32_t> allowed) const = 0;
    virtual void accept(int32_t id) = 0;
    // Takes the last `count` tokens back.
    virtual void rollback(uint32_t count) = 0;
};

// A mask at work: its rows are filled before the pass that computes their logits, as if every drafted token
// came true, and the mask goes back to those that did.
class MaskedRows {
public:
    // No mask: all tokens are allowed.
    MaskedRows() = default;
    // `most`: rows of a pass. The mask must outlive this.
    MaskedRows(LogitMask& mask, uint32_t most, uint32_t vocab_size)
        : mask_(&mask), words_((vocab_size + 31) / 32), rows_(size_t{most} * words_) {}

    // Fills a row for each drafted token and one more. Returns how many of the draft are allowed to follow.
    uint32_t fill(std::span<const int32_t> draft);
    // What row `row` allows; empty: everything.
    std::span<const uint32_t> operator[](uint32_t row) const {
        return mask_ ? std::span(rows_).subspan(row * words_, words_) : std::span<const uint32_t>();
    }
    // The first `kept` tokens of the draft came true.
    void keep(uint32_t kept);
    // They did, and then came `id`.
    void keep(uint32_t kept, int32_t id);

private:
    LogitMask* mask_ = nullptr;
    size_t words_ = 0;
    std::vector<uint32_t> rows_;
    uint32_t ahead_ = 0;  // drafted tokens that the mask has accepted
};

}  // namespace edgekit
