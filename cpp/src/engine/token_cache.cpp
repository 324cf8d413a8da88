#include "engine/token_cache.h"

#include <algorithm>
#include <string>

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

TokenCache::TokenCache(Backend& backend, const ModelSpec& spec, const CacheOptions& options)
    : backend_(backend),
      sinks_(options.sinks),
      layout_(spec, options),
      context_(backend.open(layout_)),
      tokens_(history_size(options)) {}

bool TokenCache::append(std::span<const int32_t> ids, uint32_t wanted, float* logits, const GiveUp& give_up) {
    const Part part{.context = *context_,
                    .layout = layout_,
                    .position = position(),
                    .rows = static_cast<uint32_t>(ids.size()),
                    .ids = ids.data(),
                    .wanted = wanted};
    written_ = std::max(written_, position() + ids.size());
    if (!backend_.forward({&part, 1}, Output::logits, logits, give_up)) return false;
    for (const int32_t id : ids) tokens_.append(id);
    return true;
}

void TokenCache::take_back(uint64_t count) {
    if (count > rewindable())
        throw Error(Status::invalid_argument, "cannot take back " + std::to_string(count) +
                                                  " tokens: the session holds what is needed for " +
                                                  std::to_string(rewindable()));
    tokens_.truncate(position() - count);
}

void TokenCache::clear() {
    tokens_.truncate(0);
    written_ = 0;
    set_sinks(sinks_);
}

void TokenCache::copy(const TokenCache& from) {
    set_sinks(from.options().sinks);
    context_->copy_cells(*from.context_);
    tokens_ = from.tokens_;
    written_ = from.written_;
}

void TokenCache::save_cells(const Context::Put& put) const {
    for (const CellRange& range : layout_.used(written_)) context_->save_cells(range, put);
}

void TokenCache::restore(uint64_t first, const Sha256::Digest& digest, std::span<const int32_t> tokens,
                         uint64_t written, const std::byte* cells) {
    for (const CellRange& range : layout_.used(written)) {
        context_->load_cells(range, cells);
        cells += range.size;
    }
    tokens_.restore(first, digest, tokens);
    written_ = written;
}

}  // namespace edgekit
