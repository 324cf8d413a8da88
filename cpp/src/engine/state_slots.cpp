#include "engine/state_slots.h"

#include <algorithm>

namespace edgekit {

uint32_t StateSlots::before(uint64_t position, uint32_t except) const {
    uint32_t best = kNone;
    for (uint32_t slot = 0; slot < kStates; ++slot)
        if (slot != except && now_.positions[slot] <= position &&
            (best == kNone || now_.positions[slot] > now_.positions[best]))
            best = slot;
    return best;
}

uint64_t StateSlots::start(uint64_t position, uint64_t rows) const {
    const uint64_t state = position_of(before(position));
    if (state == position || now_.inputs_begin > state) return state;
    // What a few rows write leaves the inputs since the state.
    const uint64_t reached =
        std::max(state, std::min({position, now_.inputs_end, state + kStateInputs - kFewRows}));
    return reached == position && rows > kFewRows ? position - 1 : reached;
}

uint64_t StateSlots::first(uint64_t position) const {
    uint64_t best = position == 0 ? 0 : kNowhere;
    for (const uint64_t state : now_.positions)
        if (state >= position) best = std::min(best, state);
    return best;
}

uint32_t StateSlots::victim(uint32_t from, uint32_t other) const {
    uint32_t best = kNone;
    for (uint32_t slot = 0; slot < kStates; ++slot) {
        if (slot == from || slot == other) continue;
        if (now_.positions[slot] == kNowhere) return slot;
        if (now_.positions[slot] == now_.kept) continue;
        if (best == kNone || now_.positions[slot] < now_.positions[best]) best = slot;
    }
    return best;
}

StateStep StateSlots::begin(uint64_t position, uint32_t rows) {
    const uint32_t from = before(position), older = before(position, from);
    StateStep step{.from = from == kNone ? 0 : from,
                   .replayed = static_cast<uint32_t>(position - position_of(from))};
    // In place while there is an older state to return to, and this one is not to stay.
    const bool in_place = from != kNone && rows < kFewRows && position_of(from) != now_.kept &&
                          position - position_of(older) < kFewRows &&
                          now_.inputs_begin <= position_of(older) && position <= now_.inputs_end;
    step.to = in_place ? from : victim(from);
    if (rows > kFewRows) {
        step.between = victim(from, step.to);
        step.after = kFewRows;
        now_.positions[step.between] = kNowhere;
    }
    now_.positions[step.to] = kNowhere;
    const uint64_t end = position + rows;
    now_.inputs_begin = std::max(now_.inputs_begin, end - std::min<uint64_t>(end, kStateInputs));
    now_.inputs_end = std::min(now_.inputs_end, position);
    return step;
}

void StateSlots::complete(const StateStep& step, uint64_t position, uint32_t rows) {
    const uint64_t end = position + rows;
    if (step.after) now_.positions[step.between] = end - step.after;
    now_.positions[step.to] = end;
    if (now_.inputs_end < position) now_.inputs_begin = std::max(now_.inputs_begin, position);
    now_.inputs_end = end;
}

void StateSlots::truncate(uint64_t size) {
    for (uint64_t& position : now_.positions)
        if (position > size) position = kNowhere;
    now_.inputs_end = std::min(now_.inputs_end, size);
    now_.inputs_begin = std::min(now_.inputs_begin, now_.inputs_end);
    if (now_.kept > size) now_.kept = kNowhere;
}

uint32_t StateSlots::Record::used() const {
    uint32_t bits = 0;
    for (uint32_t slot = 0; slot < kStates; ++slot) bits |= uint32_t{positions[slot] != kNowhere} << slot;
    return bits;
}

bool StateSlots::Record::sound(uint64_t size) const {
    const auto within = [&](uint64_t position) { return position == kNowhere || position <= size; };
    return std::all_of(positions.begin(), positions.end(), within) && within(kept) && inputs_end <= size &&
           inputs_begin <= inputs_end && inputs_end - inputs_begin <= kStateInputs;
}

}  // namespace edgekit
