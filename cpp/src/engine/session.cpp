#include "engine/session.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace edgekit {

namespace {

// Evictions while decoding are told together, this many at a time.
constexpr uint64_t kEvictedAtATime = 64;
// Tokens of the prompt that the text decoder sees, so that the first word of the answer keeps its space.
constexpr size_t kPromptTail = 8;

// As far back as any ring reaches: a session can be rewound to every position in it.
uint64_t history_size(const CacheOptions& cache) { return cache.capacity() + cache.chunk + kTileRows; }

double milliseconds(std::chrono::steady_clock::duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

uint64_t Session::own_bytes(const ModelSpec& spec, const CacheOptions& cache) {
    return (1 + PromptLookup::kMaxDraft) * uint64_t{spec.vocab_size} * sizeof(float) +
           TokenHistory::bytes(history_size(cache)) + Sampler::bytes(spec.vocab_size) +
           2 * Sampler::kMaxPenaltyWindow * sizeof(int32_t);
}

Session::Session(std::shared_ptr<const Model> model, const edgekit_session_options& options)
    : model_(std::move(model)),
      options_(options),
      plan_(plan_session(model_->spec(), model_->weights(), model_->text_bytes(), model_->team().size(),
                         options)),
      state_(model_->spec(), model_->weights(), plan_.cache, model_->team().size()),
      history_(history_size(plan_.cache)),
      logits_((1 + PromptLookup::kMaxDraft) * size_t{model_->spec().vocab_size}),
      sampler_(model_->kernels(), model_->spec().vocab_size) {
    recent_.reserve(2 * Sampler::kMaxPenaltyWindow);
    if (model_->tokenizer()) decoder_.emplace(*model_->tokenizer(), true);
}

void Session::check_ids(const int32_t* ids, size_t count) const {
    const auto vocab = static_cast<int32_t>(model_->spec().vocab_size);
    for (size_t i = 0; i < count; ++i) {
        if (ids[i] < 0 || ids[i] >= vocab)
            throw Error(Status::invalid_argument, "token id " + std::to_string(ids[i]) + " at place " +
                                                      std::to_string(i) + " is outside the vocabulary of " +
                                                      std::to_string(vocab));
    }
}

void Session::append(const int32_t* ids, uint32_t count, bool all_logits, float* logits) {
    ThreadChoice& choice = model_->thread_choice();
    if (count > 1) {
        model_->decoder().forward(state_, model_->team(), choice.for_prompt(), ids, count, all_logits,
                                  logits);
    } else {
        const uint32_t threads = choice.for_token();
        const auto start = Clock::now();
        model_->decoder().forward(state_, model_->team(), threads, ids, count, all_logits, logits);
        choice.took(threads, std::chrono::duration<double>(Clock::now() - start).count());
    }
    for (uint32_t i = 0; i < count; ++i) history_.append(ids[i]);
}

// Positions that some layer can no longer attend to: those after the sinks that left the session's window.
uint64_t Session::evicted() const {
    const uint64_t capacity = state_.cache().capacity();
    return state_.position > capacity ? state_.position - capacity : 0;
}

uint64_t Session::room() const {
    const uint64_t capacity = state_.cache().capacity();
    return options_.on_full == EDGEKIT_ON_FULL_EVICT ? UINT64_MAX
                                                     : capacity - std::min(capacity, state_.position);
}

void Session::forward(const int32_t* ids, size_t count, bool all_logits, float* logits) {
    check_ids(ids, count);
    if (count > room())
        throw Error(Status::context_full,
                    std::to_string(count) + " tokens do not fit: the session has room for " +
                        std::to_string(room()) + " more; use a larger window or let it evict");
    cancelled_.store(false, std::memory_order_relaxed);
    phase_ = Phase::idle;
    pending_.reset();
    const size_t vocab = model_->spec().vocab_size;
    for (size_t done = 0; done < count;) {
        if (cancelled_.load(std::memory_order_relaxed))
            throw Error(Status::cancelled, "the session was cancelled after " + std::to_string(done) +
                                               " of " + std::to_string(count) + " tokens");
        const auto step = static_cast<uint32_t>(std::min<size_t>(count - done, plan_.cache.chunk));
        const bool last = done + step == count;
        float* out = !logits ? nullptr : all_logits ? logits + done * vocab : last ? logits : nullptr;
        append(ids + done, step, all_logits, out);
        done += step;
    }
}

void Session::generate(const edgekit_generate_options& options) {
    const ModelSpec& spec = model_->spec();
    if (options.prompt && options.prompt_ids)
        throw Error(Status::invalid_argument, "give a prompt as text or as ids, not both");
    if (options.speculation < -1 || options.speculation > static_cast<int32_t>(PromptLookup::kMaxDraft))
        throw Error(Status::invalid_argument, "speculation is " + std::to_string(options.speculation) +
                                                  "; it must be -1, 0 or at most " +
                                                  std::to_string(PromptLookup::kMaxDraft));
    SamplerOptions sampler = SamplerOptions::from(options, spec.vocab_size);
    std::vector<std::string> stops;
    stops.reserve(options.stops_count);
    for (size_t i = 0; i < options.stops_count; ++i)
        stops.emplace_back(options.stops[i].data, options.stops[i].size);

    std::vector<int32_t> prompt;
    if (options.prompt) {
        if (!model_->tokenizer())
            throw Error(Status::unsupported, "the package has no tokenizer: give the prompt as token ids");
        model_->tokenizer()->encode({options.prompt, options.prompt_size},
                                    options.prompt_flags & EDGEKIT_ADD_SPECIAL,
                                    options.prompt_flags & EDGEKIT_PARSE_SPECIAL, prompt);
    } else if (options.prompt_ids) {
        prompt.assign(options.prompt_ids, options.prompt_ids + options.prompt_ids_count);
    }
    check_ids(prompt.data(), prompt.size());
    const bool from_start = options.prompt_mode == EDGEKIT_PROMPT_FROM_START;
    if (from_start && prompt.empty()) {  // an empty text begins with the token that begins texts
        const int32_t bos = model_->tokenizer() ? model_->tokenizer()->bos_id() : -1;
        if (bos < 0)
            throw Error(Status::invalid_argument,
                        "the prompt has no tokens, and this model has no token that begins a text: give it a "
                        "word to start from");
        prompt.push_back(bos);
    }
    uint64_t cached = 0;
    if (from_start) {
        pending_.reset();
        cached = std::min<uint64_t>(history_.shared_prefix(prompt),
                                    prompt.size() - 1);  // the last token's logits are needed
        const uint64_t back = state_.position - std::min(cached, state_.position);
        if (back > state_.cache().rewindable(state_.position, state_.written)) cached = 0;
        if (cached == 0)
            reset();
        else
            take_back(back);
    } else if (pending_) {
        prompt.insert(prompt.begin(), *pending_);
        pending_.reset();
    }
    if (prompt.empty())
        throw Error(Status::invalid_argument, "there is nothing to continue from: give a prompt");
    if (options_.on_full == EDGEKIT_ON_FULL_ERROR && prompt.size() - cached > room())
        throw Error(Status::context_full, "the prompt has " + std::to_string(prompt.size() - cached) +
                                              " tokens, the session has room for " + std::to_string(room()));

    stops_.configure(std::move(stops));
    sampler_.configure(std::move(sampler));
    lookup_.configure(options.speculation);
    recent_.clear();
    const size_t seen = std::min<size_t>(prompt.size(), Sampler::kMaxPenaltyWindow);
    recent_.insert(recent_.end(), prompt.end() - static_cast<ptrdiff_t>(seen), prompt.end());
    if (decoder_) {
        decoder_->reset();
        for (size_t i = prompt.size() - std::min(prompt.size(), kPromptTail); i < prompt.size(); ++i)
            decoder_->push(prompt[i]);
    }
    prompt_ = std::move(prompt);
    prompt_done_ = cached;
    prompt_tokens_ = static_cast<uint32_t>(prompt_.size());
    cached_tokens_ = static_cast<uint32_t>(cached);
    max_tokens_ = options.max_tokens;
    ignore_eos_ = options.ignore_eos != 0;
    prompt_events_ = options.prompt_events != 0;
    new_tokens_.clear();
    new_tokens_.reserve(1 + PromptLookup::kMaxDraft);
    new_text_.clear();
    generated_ = drafted_ = accepted_ = 0;
    evicted_reported_ = evicted();
    finish_.reset();
    prefill_ms_ = first_token_ms_ = decode_ms_ = 0;
    started_ = Clock::now();
    cancelled_.store(false, std::memory_order_relaxed);
    phase_ = Phase::prefill;
}

void Session::finish(edgekit_finish reason) {
    finish_ = reason;
    if (decoder_ && reason != EDGEKIT_FINISH_STOP) {
        new_text_ += stops_.push(decoder_->flush());
        new_text_ += stops_.flush();
    }
}

// Takes a sampled token in; false when the text ends with it.
bool Session::accept(int32_t id) {
    if (!ignore_eos_ && model_->ends_text(id)) {
        finish(EDGEKIT_FINISH_EOS);
        return false;
    }
    if (generated_++ == 0) first_token_ms_ = milliseconds(Clock::now() - started_);
    pending_ = id;
    new_tokens_.push_back(id);
    if (recent_.size() == recent_.capacity())
        recent_.erase(recent_.begin(), recent_.end() - Sampler::kMaxPenaltyWindow);
    recent_.push_back(id);
    if (decoder_) new_text_ += stops_.push(decoder_->push(id));
    if (stops_.stopped()) {
        finish(EDGEKIT_FINISH_STOP);
        return false;
    }
    if (max_tokens_ && generated_ >= max_tokens_) {
        finish(EDGEKIT_FINISH_LENGTH);
        return false;
    }
    return true;
}

// A chunk of the prompt; true when the prompt is in.
bool Session::prefill_step() {
    const auto left =
        static_cast<uint32_t>(std::min<uint64_t>({prompt_.size() - prompt_done_, plan_.cache.chunk, room()}));
    if (left == 0) {
        finish(EDGEKIT_FINISH_CONTEXT_FULL);
        return false;
    }
    const bool last = prompt_done_ + left == prompt_.size();
    append(prompt_.data() + prompt_done_, left, false, last ? logits_.data() : nullptr);
    prompt_done_ += left;
    if (!last) return false;
    prefilled_ = Clock::now();
    prefill_ms_ = milliseconds(prefilled_ - started_);
    return true;
}

// One pass of the model over the pending token and a guess at what follows; takes in the tokens it settles.
void Session::decode_step() {
    if (full()) {
        if (options_.on_full == EDGEKIT_ON_FULL_ERROR)
            throw Error(Status::context_full,
                        "the session's window is full after " + std::to_string(state_.position) + " tokens");
        finish(EDGEKIT_FINISH_CONTEXT_FULL);
        return;
    }
    int32_t ids[1 + PromptLookup::kMaxDraft];
    ids[0] = *pending_;
    uint64_t limit = std::min<uint64_t>({PromptLookup::kMaxDraft, plan_.cache.chunk - 1, room() - 1});
    if (max_tokens_) limit = std::min<uint64_t>(limit, max_tokens_ - generated_ - 1);
    const uint32_t drafted = lookup_.draft(history_, ids[0], std::span(ids + 1, limit));
    append(ids, 1 + drafted, drafted > 0, logits_.data());
    const size_t vocab = model_->spec().vocab_size;
    uint32_t kept = 0;
    for (uint32_t row = 0; row <= drafted; ++row) {
        const int32_t id = sampler_.sample(logits_.data() + row * vocab, recent_, generated_);
        pending_.reset();  // the one before is in the cache
        if (!accept(id) || row == drafted || id != ids[1 + row]) break;
        ++kept;
    }
    if (kept < drafted) take_back(drafted - kept);
    drafted_ += drafted;
    accepted_ += kept;
    lookup_.report(drafted, kept);
}

bool Session::evicted_event(edgekit_event& event, uint64_t at_least) {
    const uint64_t now = evicted();
    if (now < evicted_reported_ + at_least) return false;
    event.kind = EDGEKIT_EVENT_EVICTED;
    event.evicted_first = options_.sinks + evicted_reported_;
    event.evicted_count = now - evicted_reported_;
    evicted_reported_ = now;
    return true;
}

bool Session::text_event(edgekit_event& event) {
    if (new_tokens_.empty() && new_text_.empty()) return false;
    event.kind = EDGEKIT_EVENT_TEXT;
    event.text = {new_text_.data(), new_text_.size()};
    event.tokens = new_tokens_.data();
    event.token_count = new_tokens_.size();
    return true;
}

void Session::done_event(edgekit_event& event) {
    event.kind = EDGEKIT_EVENT_DONE;
    event.finish = *finish_;
    event.prompt_tokens = prompt_tokens_;
    event.cached_tokens = cached_tokens_;
    event.generated_tokens = generated_;
    event.drafted_tokens = drafted_;
    event.accepted_tokens = accepted_;
    event.prefill_ms = prefill_ms_;
    event.first_token_ms = first_token_ms_;
    event.decode_ms = decode_ms_;
    phase_ = Phase::finished;
}

void Session::next(edgekit_event& event) {
    if (phase_ == Phase::idle || phase_ == Phase::finished)
        throw Error(Status::invalid_argument, "no generation is in progress: call generate first");
    new_tokens_.clear();  // the last event's text was valid until now
    new_text_.clear();
    for (;;) {
        if (!finish_ && cancelled_.load(std::memory_order_relaxed)) finish(EDGEKIT_FINISH_CANCELLED);
        if (!finish_) {
            if (phase_ == Phase::prefill) {
                if (prefill_step()) {
                    phase_ = Phase::decode;
                    accept(sampler_.sample(logits_.data(), recent_, 0));
                }
            } else {
                decode_step();
                decode_ms_ = milliseconds(Clock::now() - prefilled_);
            }
        }
        if (text_event(event)) return;
        if (evicted_event(
                event, finish_ || evicted_reported_ == 0 || phase_ == Phase::prefill ? 1 : kEvictedAtATime))
            return;
        if (finish_) {
            done_event(event);
            return;
        }
        if (prompt_events_ && phase_ == Phase::prefill) {
            event.kind = EDGEKIT_EVENT_PROMPT;
            event.prompt_tokens = prompt_tokens_;
            event.cached_tokens = static_cast<uint32_t>(prompt_done_);
            return;
        }
    }
}

void Session::reset() {
    phase_ = Phase::idle;
    pending_.reset();
    state_.position = state_.written = 0;
    history_.clear();
    evicted_reported_ = 0;
}

void Session::rewind(uint64_t count) {
    take_back(count);
    phase_ = Phase::idle;
    pending_.reset();
}

void Session::take_back(uint64_t count) {
    const uint64_t most = state_.cache().rewindable(state_.position, state_.written);
    if (count > most)
        throw Error(Status::invalid_argument, "cannot take back " + std::to_string(count) +
                                                  " tokens: the session holds what is needed for " +
                                                  std::to_string(most));
    state_.position -= count;
    history_.truncate(state_.position);
    evicted_reported_ = std::min(evicted_reported_, evicted());
}

std::unique_ptr<Session> Session::fork() const {
    edgekit_session_options options = options_;
    options.window = plan_.cache.window;  // what was chosen for this session, whatever the budget says now
    options.chunk = plan_.cache.chunk;
    options.kv_type = plan_.memory.kv_type;
    options.memory_budget_bytes = 0;
    auto copy = std::make_unique<Session>(model_, options);
    std::memcpy(copy->state_.cache_bytes(), state_.cache_bytes(), state_.cache_size());
    copy->state_.position = state_.position;
    copy->state_.written = state_.written;
    copy->history_ = history_;
    copy->pending_ = pending_;
    return copy;
}

}  // namespace edgekit
