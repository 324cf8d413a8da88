#pragma once
// Where the states of recurrent layers are. A state goes one way: what is behind it is reached from an older
// one, by taking in again the inputs since then, the last of which are remembered, or the tokens. Some older
// states are near the end at all times, so that taking a few tokens back costs next to nothing, and one is
// where the caller expects to return to.

#include <algorithm>
#include <array>
#include <cstdint>

#include "backend/backend.h"

namespace edgekit {

class StateSlots {
public:
    // Rows of a pass that may begin between states and be given up without harm; and how far states near the
    // end are apart.
    static constexpr uint32_t kFewRows = 8;
    static_assert(4 * kFewRows <= kStateInputs);
    static constexpr uint64_t kNowhere = UINT64_MAX;

    // Where passes have to begin for one of so many rows to begin at `position` in the end: there, or
    // earlier, with the tokens in between, a few at a time.
    uint64_t start(uint64_t position, uint64_t rows) const;
    // The first state at or after a position; 0 is one. kNowhere: there is none.
    uint64_t first(uint64_t position) const;

    // A pass that can begin there; what it writes over is gone.
    StateStep begin(uint64_t position, uint32_t rows);
    // It was computed.
    void complete(const StateStep& step, uint64_t position, uint32_t rows);
    // The text was cut.
    void truncate(uint64_t size);
    // Holds on to a state a few tokens before `position`, where the last pass ended, until another one is to
    // be kept: what follows may differ a little before it.
    void keep(uint64_t position) { now_.kept = first(position - std::min<uint64_t>(position, kFewRows)); }

    // What is saved with the states: `used` has a bit for each that there is.
    struct Record {
        std::array<uint64_t, kStates> positions{kNowhere, kNowhere, kNowhere, kNowhere};
        uint64_t inputs_begin = 0, inputs_end = 0;  // those that are remembered
        uint64_t kept = kNowhere;

        uint32_t used() const;
        // False for what no text of so many tokens leaves.
        bool sound(uint64_t size) const;
    };
    const Record& record() const { return now_; }
    void restore(const Record& record) { now_ = record; }

private:
    static constexpr uint32_t kNone = UINT32_MAX;

    // The nearest state at or before a position, but for `except`; kNone: the text's beginning.
    uint32_t before(uint64_t position, uint32_t except = kNone) const;
    uint64_t position_of(uint32_t slot) const { return slot == kNone ? 0 : now_.positions[slot]; }
    // The state that is missed least.
    uint32_t victim(uint32_t from, uint32_t other = kNone) const;

    Record now_;
};

}  // namespace edgekit
