#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "error.h"
#include "text/unicode.h"

namespace edgekit::text {

namespace {

constexpr uint32_t no_rank = UINT32_MAX;
constexpr uint32_t nowhere = UINT32_MAX;
// Up to here a scan for the lowest rank is faster than a heap.
constexpr size_t short_word = 64;
// The memory of one encoder: words of up to so many bytes, so many at once, and all forgotten when their text
// is full.
constexpr size_t longest_remembered = 128;
constexpr size_t remembered_slots = 4096;
constexpr size_t remembered_bytes = 1 << 18;
// And pairs of symbols: about as many as the longest word has.
constexpr size_t fewest_pairs = 1 << 12, most_pairs = 1 << 14;

void require_short(size_t bytes) {
    if (bytes <= INT32_MAX) return;
    throw Error(Status::invalid_argument, "a word of " + std::to_string(bytes) +
                                              " bytes is longer than the tokenizer takes; split the text");
}

}  // namespace

/// Of symbols `left` and `right`, whose texts are `[begin, middle)` and `[middle, end)` of `spelt_`.
inline BpeEncoder::Merge BpeEncoder::merge(int32_t left, int32_t right, uint32_t begin, uint32_t middle,
                                           uint32_t end) {
    const uint64_t ids = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
    Pair& pair = pairs_[ids * hash_factor >> pair_shift_];
    if (pair.ids != ids) pair = {ids, look_up(spelt_.substr(begin, end - begin), middle - begin)};
    return pair.merge;
}

BpeEncoder::Merge BpeEncoder::look_up(std::string_view both, uint32_t left) const {
    const int32_t made = model_.vocabulary.find(both);
    if (made < 0) return {no_rank, -1};
    for (uint32_t place = model_.merge_start[made]; place < model_.merge_start[made + 1]; ++place) {
        if (model_.left(place) == left) return {model_.rank(place), made};
    }
    return {no_rank, -1};
}

void BpeEncoder::encode(std::string_view word, std::vector<int32_t>& out) {
    const uint64_t hash = hash_text(word);
    const int32_t id = model_.vocabulary.find(word, hash);
    if (id >= 0 && ((model_.flags & ignore_merges) || (model_.vocabulary.flags[id] & whole))) {
        out.push_back(id);
        return;
    }
    if (recall(word, hash, out)) return;
    split_into_symbols(word);
    if (symbols_.size() > short_word) {
        merge_long();
    } else {
        merge_short();
    }
    out.insert(out.end(), symbols_.begin(), symbols_.end());
    remember(word, hash);
}

bool BpeEncoder::recall(std::string_view word, uint64_t hash, std::vector<int32_t>& out) const {
    if (remembered_.empty()) return false;
    const Remembered& r = remembered_[hash % remembered_slots];
    if (r.hash != hash || std::string_view(remembered_text_).substr(r.text_start, r.text_size) != word)
        return false;
    const auto ids = remembered_ids_.begin() + r.ids_start;
    out.insert(out.end(), ids, ids + r.ids_count);
    return true;
}

void BpeEncoder::remember(std::string_view word, uint64_t hash) {
    if (word.size() > longest_remembered || hash == 0) return;
    if (remembered_.empty() || remembered_text_.size() + word.size() > remembered_bytes) {
        remembered_.assign(remembered_slots, Remembered{});
        remembered_text_.clear();
        remembered_ids_.clear();
    }
    remembered_[hash % remembered_slots] = {
        hash, static_cast<uint32_t>(remembered_text_.size()), static_cast<uint32_t>(word.size()),
        static_cast<uint32_t>(remembered_ids_.size()), static_cast<uint32_t>(symbols_.size())};
    remembered_text_ += word;
    remembered_ids_.insert(remembered_ids_.end(), symbols_.begin(), symbols_.end());
}

int32_t BpeEncoder::character_id(std::string_view character) {
    const auto bytes = static_cast<uint32_t>(load_word(character.data(), character.size()));
    Character& c = characters_[bytes * 2654435761u >> 23];
    if (c.bytes != bytes) c = {bytes, model_.vocabulary.find(character)};
    return c.id;
}

void BpeEncoder::split_into_symbols(std::string_view word) {
    symbols_.clear();
    starts_.clear();
    bool as_written = true;  // each symbol's text is its part of the word
    bool unk_pending = false;
    const auto unknown = [&] {
        as_written = false;
        if (model_.unk_id < 0) return;  // such a model drops what it does not know
        if (unk_pending && !(model_.flags & fuse_unk)) symbols_.push_back(model_.unk_id);
        unk_pending = true;
    };
    const auto known = [&](int32_t id, size_t at) {
        if (unk_pending) symbols_.push_back(model_.unk_id);
        unk_pending = false;
        symbols_.push_back(id);
        starts_.push_back(static_cast<uint32_t>(at));
    };
    require_short(word.size());
    if (model_.flags & byte_level) {
        for (size_t i = 0; i < word.size(); ++i) {
            const int32_t id = model_.byte_ids[static_cast<uint8_t>(word[i])];
            if (id >= 0) {
                known(id, i);
            } else {
                unknown();
            }
        }
    } else {
        for (size_t i = 0; i < word.size();) {
            const auto lead = static_cast<uint8_t>(word[i]);
            const unsigned length = sequence_length(lead);
            const std::string_view character = word.substr(i, length);
            const int32_t id = lead < 128 ? model_.ascii_ids[lead] : character_id(character);
            i += length;
            if (id >= 0) {
                known(id, i - length);
                continue;
            }
            const auto byte_id = [&](char c) { return model_.byte_ids[static_cast<uint8_t>(c)]; };
            if ((model_.flags & byte_fallback) &&
                std::all_of(character.begin(), character.end(), [&](char c) { return byte_id(c) >= 0; })) {
                // Each byte's symbol stands for that byte: texts that cut a character are no token's.
                for (size_t k = 0; k < length; ++k) {
                    symbols_.push_back(byte_id(character[k]));
                    starts_.push_back(static_cast<uint32_t>(i - length + k));
                }
            } else {
                unknown();
            }
        }
    }
    if (unk_pending) symbols_.push_back(model_.unk_id);
    spelt_ = word;
    if (!as_written) respell();
    starts_.push_back(static_cast<uint32_t>(spelt_.size()));
    const size_t slots = std::clamp(std::bit_ceil(symbols_.size()), fewest_pairs, most_pairs);
    if (pairs_.size() < slots) {
        pairs_.assign(slots, Pair{});
        pair_shift_ = static_cast<uint32_t>(64 - std::countr_zero(slots));
    }
}

void BpeEncoder::respell() {
    starts_.clear();
    respelt_.clear();
    for (int32_t id : symbols_) {
        starts_.push_back(static_cast<uint32_t>(respelt_.size()));
        respelt_ += model_.vocabulary.text(id);
        require_short(respelt_.size());
    }
    spelt_ = respelt_;
}

void BpeEncoder::merge_short() {
    size_t pairs = symbols_.size();
    if (pairs-- < 2) return;
    uint32_t ranks[short_word];
    int32_t made[short_word];
    int32_t* symbols = symbols_.data();
    uint32_t* starts = starts_.data();
    const auto look_at = [&](size_t at) {
        const Merge found = merge(symbols[at], symbols[at + 1], starts[at], starts[at + 1], starts[at + 2]);
        ranks[at] = found.rank;
        made[at] = found.made;
    };
    for (size_t i = 0; i < pairs; ++i) look_at(i);
    while (pairs > 0) {
        size_t best = 0;
        for (size_t i = 1; i < pairs; ++i) best = ranks[i] < ranks[best] ? i : best;
        if (ranks[best] == no_rank) break;
        symbols[best] = made[best];
        for (size_t i = best + 1; i < pairs; ++i) {
            symbols[i] = symbols[i + 1];
            starts[i] = starts[i + 1];
            ranks[i - 1] = ranks[i];
            made[i - 1] = made[i];
        }
        starts[pairs] = starts[pairs + 1];
        --pairs;
        if (best > 0) look_at(best - 1);
        if (best < pairs) look_at(best);
    }
    symbols_.resize(pairs + 1);
}

void BpeEncoder::merge_long() {
    const auto n = static_cast<uint32_t>(symbols_.size());
    places_.resize(n);
    heap_.clear();
    for (uint32_t i = 0; i < n; ++i) {
        places_[i] = {symbols_[i], starts_[i], i + 1 < n ? i + 1 : nowhere, i > 0 ? i - 1 : nowhere, {}};
    }
    const auto end_of = [&](const Place& p) {
        return p.next == nowhere ? starts_[n] : places_[p.next].start;
    };
    const auto update = [&](uint32_t at) {
        Place& p = places_[at];
        p.merge = {no_rank, -1};
        if (p.next == nowhere) return;
        const Place& right = places_[p.next];
        p.merge = merge(p.symbol, right.symbol, p.start, right.start, end_of(right));
        if (p.merge.rank == no_rank) return;
        heap_.push_back(static_cast<uint64_t>(p.merge.rank) << 32 | at);
    };
    const auto push = [&](uint32_t at) {
        const size_t before = heap_.size();
        update(at);
        if (heap_.size() > before) std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    };
    for (uint32_t i = 0; i < n; ++i) update(i);
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    while (!heap_.empty()) {
        const uint64_t top = heap_.front();
        std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
        heap_.pop_back();
        const auto at = static_cast<uint32_t>(top);
        Place& p = places_[at];
        if (p.merge.rank != top >> 32) continue;  // the pair is gone
        Place& right = places_[p.next];
        p.symbol = p.merge.made;
        right.merge.rank = no_rank;
        p.next = right.next;
        if (p.next != nowhere) places_[p.next].previous = at;
        push(at);
        if (p.previous != nowhere) push(p.previous);
    }
    size_t kept = 0;
    for (uint32_t i = 0; i != nowhere; i = places_[i].next) symbols_[kept++] = places_[i].symbol;
    symbols_.resize(kept);
}

}  // namespace edgekit::text
