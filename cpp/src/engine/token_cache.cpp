#include "engine/token_cache.h"

#include <algorithm>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "error.h"

namespace edgekit {

namespace {

// As far back as any ring reaches, for a text can be taken back to every position in it, and as the
// penalties.
uint64_t history_size(const CacheOptions& cache) {
    return std::max<uint64_t>(cache.capacity() + cache.chunk + kTileRows, Sampler::kMaxPenaltyWindow);
}

}  // namespace

uint64_t TokenCache::own_bytes(const CacheOptions& options) {
    return TokenHistory::bytes(history_size(options));
}

TokenCache::TokenCache(Relay& relay, Companion* companion, const ModelSpec& spec, const CacheOptions& options)
    : relay_(relay),
      backend_(&relay.backend()),
      sinks_(options.sinks),
      layout_(spec, options),
      context_(open_context()),
      tokens_(history_size(options)),
      companion_(companion, layout_, spec.vocab_size) {}

std::string_view TokenCache::relayed() const {
    return companion_.why().empty() ? relay_.reason(*backend_) : companion_.why();
}

std::string_view TokenCache::computed_by() const {
    return companion_.leads() ? std::string_view(companion_.name()) : relay_.kind(*backend_).name;
}

uint64_t TokenCache::rewindable() const {
    const uint64_t attended = layout_.rewindable(position(), written_);
    if (!layout_.has_states()) return attended;
    // From a state on, the tokens after it can be computed again.
    return position() - states_.first(std::max(position() - attended, tokens_.first()));
}

bool TokenCache::append(std::span<const int32_t> ids, uint32_t wanted, float* logits, const GiveUp& give_up) {
    if (companion_.takes(tokens_, ids.size())) {
        // No further behind than the tokens are known.
        while (position() + ids.size() - processed_ > tokens_.capacity())
            if (!catch_up_chunk(give_up)) return false;
        if (const auto completed = companion_.append(tokens_, ids, wanted, logits, give_up)) {
            if (!*completed) return false;
            written_ = std::max(written_, position() + ids.size());
            for (const int32_t id : ids) tokens_.append(id);
            return true;
        }
    }
    if (!catch_up(give_up)) return false;
    if (layout_.has_states()) {
        for (;;) {
            const uint64_t start = states_.start(position(), ids.size());
            if (start == position()) break;
            int32_t again[StateSlots::kFewRows];
            const auto n = static_cast<size_t>(std::min<uint64_t>(std::size(again), position() - start));
            for (size_t i = 0; i < n; ++i) again[i] = tokens_.at(start + i);
            if (!pass(start, {again, n}, 0, nullptr, give_up)) return false;
        }
    }
    if (!pass(position(), ids, wanted, logits, give_up)) return false;
    for (const int32_t id : ids) tokens_.append(id);
    processed_ = position();
    if (wanted) companion_.follow(tokens_, wanted, logits, give_up);
    return true;
}

bool TokenCache::catch_up(const GiveUp& give_up) {
    while (processed_ < position())
        if (!catch_up_chunk(give_up)) return false;
    return true;
}

bool TokenCache::catch_up_chunk(const GiveUp& give_up) {
    std::vector<int32_t> ids(std::min<uint64_t>(options().chunk, position() - processed_));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = tokens_.at(processed_ + i);
    if (!pass(processed_, ids, 0, nullptr, give_up)) return false;
    processed_ += ids.size();
    return true;
}

bool TokenCache::pass(uint64_t position, std::span<const int32_t> ids, uint32_t wanted, float* logits,
                      const GiveUp& give_up) {
    const auto rows = static_cast<uint32_t>(ids.size());
    const StateStep states = states_.begin(position, rows);
    const auto compute = [&] {
        const Part part{.context = *context_,
                        .layout = layout_,
                        .position = position,
                        .rows = rows,
                        .ids = ids.data(),
                        .wanted = wanted,
                        .states = states};
        return backend_->forward({&part, 1}, Output::logits, logits, give_up);
    };
    written_ = std::max(written_, position + rows);
    bool completed = false;
    try {
        completed = compute();
    } catch (const BackendFailure& failure) {
        hand_over(failure);
        completed = compute();
    }
    if (completed) states_.complete(states, position, rows);
    return completed;
}

std::unique_ptr<Context> TokenCache::open_context() {
    try {
        return backend_->open(layout_);
    } catch (const BackendFailure& failure) {
        backend_ = &relay_.after(*backend_, failure);
        return backend_->open(layout_);
    }
}

void TokenCache::move_cells(const Context& from, Context& to) const {
    for (const CellRange& range : layout_.used(written_, states().used())) {
        uint64_t at = range.offset;
        from.save_cells(range, [&](std::span<const std::byte> bytes) {
            to.load_cells({at, bytes.size()}, bytes.data());
            at += bytes.size();
        });
    }
}

void TokenCache::hand_over(const BackendFailure& failure) {
    Backend& next = relay_.after(*backend_, failure);
    std::unique_ptr<Context> context = next.open(layout_);
    try {
        move_cells(*context_, *context);
    } catch (const BackendFailure&) {
        // Gone with the device: only a text that is known from its beginning, and without states, whose
        // places this pass has chosen already.
        if (tokens_.first() > 0 || layout_.has_states()) throw BackendFailure(failure);
        std::vector<int32_t> ids;
        for (uint64_t done = 0; done < processed_; done += ids.size()) {
            ids.clear();
            while (ids.size() < options().chunk && done + ids.size() < processed_)
                ids.push_back(tokens_.at(done + ids.size()));
            const Part part{.context = *context,
                            .layout = layout_,
                            .position = done,
                            .rows = static_cast<uint32_t>(ids.size()),
                            .ids = ids.data()};
            next.forward({&part, 1}, Output::logits, nullptr, {});
        }
    }
    context_ = std::move(context);
    backend_ = &next;
}

void TokenCache::take_back(uint64_t count) {
    if (count > rewindable())
        throw Error(Status::invalid_argument, "cannot take back " + std::to_string(count) +
                                                  " tokens: the session holds what is needed for " +
                                                  std::to_string(rewindable()));
    tokens_.truncate(position() - count);
    states_.truncate(position());
    processed_ = std::min(processed_, position());
    companion_.take_back(position());
}

void TokenCache::clear() {
    tokens_.truncate(0);
    states_ = {};
    written_ = processed_ = 0;
    companion_.forget();
    set_sinks(sinks_);
}

void TokenCache::copy(const TokenCache& from) {
    set_sinks(from.options().sinks);
    tokens_ = from.tokens_;
    written_ = from.written_;
    states_ = from.states_;
    processed_ = from.processed_;
    if (backend_ == from.backend_)
        context_->copy_cells(*from.context_);
    else  // whose backend has failed for other texts
        move_cells(*from.context_, *context_);
}

void TokenCache::save_cells(const Context::Put& put) {
    catch_up({});
    for (const CellRange& range : layout_.used(written_, states().used())) context_->save_cells(range, put);
}

void TokenCache::restore(uint64_t first, const Sha256::Digest& digest, std::span<const int32_t> tokens,
                         uint64_t written, const StateSlots::Record& states, const std::byte* cells) {
    for (const CellRange& range : layout_.used(written, states.used())) {
        context_->load_cells(range, cells);
        cells += range.size;
    }
    tokens_.restore(first, digest, tokens);
    written_ = written;
    processed_ = position();
    states_.restore(states);
}

}  // namespace edgekit
