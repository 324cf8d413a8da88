#include "text/bpe.h"

#include <algorithm>
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

}  // namespace

uint32_t BpeEncoder::rank(int32_t left, int32_t right) const {
    const uint64_t key = static_cast<uint64_t>(left) << 20 | static_cast<uint64_t>(right);
    const uint64_t* entry = &model_.merge_table[home_slot(key * hash_factor, model_.merge_slots)];
    for (; *entry != UINT64_MAX; ++entry) {
        if (*entry >> 24 == key) return static_cast<uint32_t>(*entry & 0xFFFFFF);
    }
    return no_rank;
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
    if (word.size() > INT32_MAX) {
        throw Error(Status::invalid_argument,
                    "a word of " + std::to_string(word.size()) +
                        " bytes is longer than the tokenizer takes; split the text");
    }
    bool unk_pending = false;
    const auto unknown = [&] {
        if (model_.unk_id < 0) return;  // such a model drops what it does not know
        if (unk_pending && !(model_.flags & fuse_unk)) symbols_.push_back(model_.unk_id);
        unk_pending = true;
    };
    const auto known = [&](int32_t id) {
        if (unk_pending) symbols_.push_back(model_.unk_id);
        unk_pending = false;
        symbols_.push_back(id);
    };
    if (model_.flags & byte_level) {
        for (char c : word) {
            const int32_t id = model_.byte_ids[static_cast<uint8_t>(c)];
            if (id >= 0) {
                known(id);
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
                known(id);
                continue;
            }
            const auto byte_id = [&](char c) { return model_.byte_ids[static_cast<uint8_t>(c)]; };
            if ((model_.flags & byte_fallback) &&
                std::all_of(character.begin(), character.end(), [&](char c) { return byte_id(c) >= 0; })) {
                for (char c : character) symbols_.push_back(byte_id(c));
            } else {
                unknown();
            }
        }
    }
    if (unk_pending) symbols_.push_back(model_.unk_id);
}

void BpeEncoder::merge_short() {
    const size_t n = symbols_.size();
    if (n < 2) return;
    uint32_t ranks[short_word];
    int32_t* symbols = symbols_.data();
    size_t pairs = n - 1;
    for (size_t i = 0; i < pairs; ++i) ranks[i] = rank(symbols[i], symbols[i + 1]);
    while (pairs > 0) {
        size_t best = 0;
        for (size_t i = 1; i < pairs; ++i) best = ranks[i] < ranks[best] ? i : best;
        if (ranks[best] == no_rank) break;
        symbols[best] = model_.merge_result[ranks[best]];
        for (size_t i = best + 1; i < pairs; ++i) {
            symbols[i] = symbols[i + 1];
            ranks[i - 1] = ranks[i];
        }
        --pairs;
        if (best > 0) ranks[best - 1] = rank(symbols[best - 1], symbols[best]);
        if (best < pairs) ranks[best] = rank(symbols[best], symbols[best + 1]);
    }
    symbols_.resize(pairs + 1);
}

void BpeEncoder::merge_long() {
    const auto n = static_cast<uint32_t>(symbols_.size());
    ranks_.assign(n, no_rank);  // of the pair that starts here, as of now
    next_.resize(n);
    previous_.resize(n);
    heap_.clear();
    for (uint32_t i = 0; i < n; ++i) {
        next_[i] = i + 1 < n ? i + 1 : nowhere;
        previous_[i] = i > 0 ? i - 1 : nowhere;
        if (i + 1 < n) ranks_[i] = rank(symbols_[i], symbols_[i + 1]);
        if (ranks_[i] != no_rank) heap_.push_back(static_cast<uint64_t>(ranks_[i]) << 32 | i);
    }
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    const auto update = [&](uint32_t at) {
        ranks_[at] = next_[at] == nowhere ? no_rank : rank(symbols_[at], symbols_[next_[at]]);
        if (ranks_[at] == no_rank) return;
        heap_.push_back(static_cast<uint64_t>(ranks_[at]) << 32 | at);
        std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    };
    while (!heap_.empty()) {
        const uint64_t top = heap_.front();
        std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
        heap_.pop_back();
        const auto at = static_cast<uint32_t>(top);
        if (ranks_[at] != top >> 32) continue;  // the pair is gone
        const uint32_t right = next_[at];
        symbols_[at] = model_.merge_result[ranks_[at]];
        ranks_[right] = no_rank;
        next_[at] = next_[right];
        if (next_[at] != nowhere) previous_[next_[at]] = at;
        update(at);
        if (previous_[at] != nowhere) update(previous_[at]);
    }
    size_t kept = 0;
    for (uint32_t i = 0; i != nowhere; i = next_[i]) symbols_[kept++] = symbols_[i];
    symbols_.resize(kept);
}

}  // namespace edgekit::text
