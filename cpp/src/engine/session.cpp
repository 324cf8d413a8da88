#include "engine/session.h"

#include <algorithm>

#include "engine/prompt.h"
#include "error.h"

namespace edgekit {

namespace {

// Evictions while decoding are told together, this many at a time.
constexpr uint64_t kEvictedAtATime = 64;
// How often an app is asked whether to go on: soon enough for a finger on Ctrl-C.
constexpr std::chrono::milliseconds kPollEvery{20};

}  // namespace

Session::Session(std::shared_ptr<const Model> model, const edgekit_session_options& options)
    : model_(std::move(model)),
      options_(model_->fitted(options)),
      plan_(model_->plan_session(options)),
      cache_(model_->relay(), model_->companion(), model_->spec(), plan_.cache),
      computed_by_(cache_.computed_by()) {}

edgekit_memory_plan Session::plan() const {
    edgekit_memory_plan plan = plan_.memory;
    plan.window = cache_.options().window;
    plan.sinks = cache_.options().sinks;
    return plan;
}

bool Session::append(std::span<const int32_t> ids, bool all_logits, float* logits) {
    model_->require_unchanged();
    const size_t wanted = !logits ? 0 : all_logits ? ids.size() : 1;
    return cache_.append(ids, static_cast<uint32_t>(wanted), logits, [this] { return cancelled(); });
}

// Asked by the thread that computes, which is also the one that polls.
bool Session::cancelled() {
    if (options_.poll) {
        const auto now = Clock::now();
        if (now - polled_ >= kPollEvery) {
            polled_ = now;
            if (options_.poll(options_.poll_context)) cancel();
        }
    }
    return cancelled_.load(std::memory_order_relaxed);
}

uint64_t Session::room(uint64_t kept) const {
    const uint64_t capacity = cache_.capacity();
    return options_.on_full == EDGEKIT_ON_FULL_EVICT ? UINT64_MAX : capacity - std::min(capacity, kept);
}

void Session::forward(std::span<const int32_t> ids, bool all_logits, float* logits) {
    model_->check_ids(ids, "the tokens");
    if (ids.size() > room())
        throw Error(Status::context_full,
                    std::to_string(ids.size()) + " tokens do not fit: the session has room for " +
                        std::to_string(room()) + " more; use a larger window or let it evict");
    cancelled_.store(false, std::memory_order_relaxed);
    phase_ = Phase::idle;
    pending_.reset();
    known_text_ = {};
    const size_t vocab = model_->spec().vocab_size;
    for (size_t done = 0; done < ids.size();) {
        const size_t step = std::min<size_t>(ids.size() - done, plan_.cache.chunk);
        const bool last = done + step == ids.size();
        float* out = !logits ? nullptr : all_logits ? logits + done * vocab : last ? logits : nullptr;
        if (cancelled() || !append(ids.subspan(done, step), all_logits, out))
            throw Error(Status::cancelled, "the session was cancelled after " + std::to_string(done) +
                                               " of " + std::to_string(ids.size()) + " tokens");
        done += step;
    }
}

uint64_t Session::reusable(std::span<const int32_t> ids) const {
    const uint64_t shared = std::min<uint64_t>(cache_.tokens().shared_prefix(ids),
                                               ids.size() - 1);  // the last one's logits are needed
    return position() - shared <= cache_.rewindable() ? shared : 0;
}

// Everything that can be refused comes before anything that changes.
void Session::generate(const edgekit_generate_options& options, LogitMask* mask) {
    if (options.speculation < -1 || options.speculation > static_cast<int32_t>(PromptLookup::kMaxDraft))
        throw Error(Status::invalid_argument, "speculation is " + std::to_string(options.speculation) +
                                                  "; it must be -1, 0 or at most " +
                                                  std::to_string(PromptLookup::kMaxDraft));
    model_->require_unchanged();
    SamplerOptions sampler = SamplerOptions::from(options, model_->spec().vocab_size);
    Generation generation(options, *model_, cache_.capacity());
    MaskedRows allowed =
        mask ? MaskedRows(*mask, 1 + PromptLookup::kMaxDraft, model_->spec().vocab_size) : MaskedRows();
    Prompt prompt(options, *model_, position() == 0 && !pending_);
    std::vector<int32_t>& ids = prompt.ids;
    generation.done.prompt_tokens = static_cast<uint32_t>(ids.size());
    generation.done.seed = sampler.seed;
    if (!prompt.messages.is_null()) generation.begin_with(prompt.text);
    uint64_t kept = prompt.from_start ? reusable(ids) : position();
    bool appended = !prompt.from_start;
    if (prompt.from_start && kept == 0 && known_text_.begins(prompt.text)) {
        // The same text in other tokens than the tokenizer's: the model wrote them, and the ring has moved
        // on.
        ids = model_->encode_chat(prompt.messages, known_text_.size).ids;
        kept = position();
        appended = true;
        generation.done.cached_tokens =
            generation.done.prompt_tokens -
            std::min(generation.done.prompt_tokens, static_cast<uint32_t>(ids.size()));
    } else if (prompt.from_start) {
        generation.done.cached_tokens = static_cast<uint32_t>(kept);
        ids.erase(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(kept));
    }
    if (appended && pending_) ids.insert(ids.begin(), *pending_);
    if (ids.empty())
        throw Error(Status::invalid_argument, "there is nothing to continue from: give a prompt");
    if (options_.on_full == EDGEKIT_ON_FULL_ERROR && ids.size() > room(kept))
        throw Error(Status::context_full, "the prompt has " + std::to_string(ids.size()) +
                                              " more tokens, the session has room for " +
                                              std::to_string(room(kept)));
    std::vector<int32_t> tail;
    for (uint64_t missing = Generation::kTail - std::min(ids.size(), Generation::kTail),
                  p = kept - std::min(kept - cache_.tokens().first(), missing);
         p < kept; ++p)
        tail.push_back(cache_.tokens().at(p));
    tail.insert(tail.end(), ids.end() - static_cast<ptrdiff_t>(std::min(ids.size(), Generation::kTail)),
                ids.end());
    generation.begin_after(tail);

    if (kept == 0)
        reset();
    else
        take_back(position() - kept);
    if (prompt.from_start) choose_sinks(prompt.system_tokens);
    pending_.reset();
    known_text_ = {};
    sampler_options_ = std::move(sampler);
    lookup_.configure(options.speculation);
    generation_ = std::move(generation);
    allowed_ = std::move(allowed);
    prompt_ = std::move(ids);
    prompt_done_ = 0;
    evicted_reported_ = cache_.evicted();
    cancelled_.store(false, std::memory_order_relaxed);
    phase_ = Phase::prefill;
}

// A chunk of the prompt, and after the last one the first token.
void Session::prefill_step() {
    const auto rest = std::span<const int32_t>(prompt_).subspan(prompt_done_);
    const auto ids = rest.first(std::min<uint64_t>({rest.size(), plan_.cache.chunk, room()}));
    if (ids.empty()) return generation_.end(EDGEKIT_FINISH_CONTEXT_FULL);
    if (ids.size() < rest.size()) {
        if (append(ids, false, nullptr)) prompt_done_ += ids.size();
        return;
    }
    Sampling& sampling = model_->sampling();
    const std::lock_guard turn(sampling.turns);
    if (!append(ids, false, sampling.logits.get())) return;
    prompt_done_ = prompt_.size();
    cache_.keep();
    generation_.prefilled = Clock::now();
    generation_.done.prefill_ms = milliseconds_since(generation_.started);
    phase_ = Phase::decode;
    allowed_.fill({});
    const int32_t first = sampling.sampler.sample(sampler_options_, sampling.logits.get(), cache_.tokens(),
                                                  position(), 0, allowed_[0]);
    allowed_.keep(0, first);
    accept(first);
    if (generation_.ended()) take_stop_back();
}

// Takes a sampled token in, unless it is what ends the text.
void Session::accept(int32_t id) {
    generation_.take(id);
    if (!generation_.ended() || generation_.finish() == EDGEKIT_FINISH_LENGTH) pending_ = id;
}

// One pass of the model over the pending token and a guess at what follows; takes in the tokens it settles.
void Session::decode_step() {
    if (room() == 0) {
        if (options_.on_full == EDGEKIT_ON_FULL_ERROR)
            throw Error(Status::context_full,
                        "the session's window is full after " + std::to_string(position()) + " tokens");
        generation_.end(EDGEKIT_FINISH_CONTEXT_FULL);
        return;
    }
    int32_t ids[1 + PromptLookup::kMaxDraft];
    ids[0] = *pending_;
    const auto limit = std::min<uint64_t>({cache_.drafts() ? PromptLookup::kMaxDraft : 0,
                                           plan_.cache.chunk - 1, room() - 1, generation_.tokens_left() - 1});
    const uint32_t drafted =
        allowed_.fill({ids + 1, lookup_.draft(cache_.tokens(), ids[0], std::span(ids + 1, limit))});
    Sampling& sampling = model_->sampling();
    const std::lock_guard turn(sampling.turns);
    if (!append({ids, 1 + drafted}, drafted > 0, sampling.logits.get())) return allowed_.keep(0);
    pending_.reset();
    const size_t vocab = model_->spec().vocab_size;
    const uint64_t before = position() - drafted;  // the text's length when the first row is drawn
    uint32_t kept = 0;
    int32_t id = 0;
    try {
        for (;; ++kept) {
            id = sampling.sampler.sample(sampler_options_, sampling.logits.get() + kept * vocab,
                                         cache_.tokens(), before + kept, generation_.done.generated_tokens,
                                         allowed_[kept]);
            accept(id);
            if (generation_.ended() || kept == drafted || id != ids[1 + kept]) break;
        }
    } catch (...) {  // what no event has told is no part of the text
        pending_.reset();
        take_back(drafted);
        throw;
    }
    allowed_.keep(kept, id);
    take_back(drafted - kept);
    if (generation_.ended()) take_stop_back();
    generation_.done.drafted_tokens += drafted;
    generation_.done.accepted_tokens += kept;
    lookup_.report(drafted, kept);
}

// The cache holds no more than the text says: the tokens of a stop string leave it, the last of which never
// came in.
void Session::take_stop_back() {
    const uint32_t beyond =
        generation_.finish() == EDGEKIT_FINISH_STOP ? generation_.tokens_beyond_text() : 0;
    if (beyond == 0) return;
    const uint64_t back = std::min<uint64_t>(beyond - 1, cache_.rewindable());
    take_back(back);
    generation_.done.taken_back = static_cast<uint32_t>(1 + back);
}

bool Session::evicted_event(edgekit_event& event, uint64_t at_least) {
    const uint64_t now = cache_.evicted();
    if (now < evicted_reported_ + at_least) return false;
    event.kind = EDGEKIT_EVENT_EVICTED;
    event.evicted_first = cache_.options().sinks + evicted_reported_;
    event.evicted_count = now - evicted_reported_;
    evicted_reported_ = now;
    return true;
}

// Of a model with a companion.
bool Session::moved_event(edgekit_event& event) {
    if (!model_->companion() || cache_.position() == 0 || computed_by_ == cache_.computed_by()) return false;
    event.kind = EDGEKIT_EVENT_MOVED;
    say_who(event);
    computed_by_ = cache_.computed_by();
    return true;
}

void Session::say_who(edgekit_event& event) const {
    const std::string_view name = cache_.computed_by(), why = cache_.relayed();
    event.computed_by = {name.data(), name.size()};
    event.relayed = {why.data(), why.size()};
}

void Session::next(edgekit_event& event) {
    if (phase_ == Phase::idle)
        throw Error(Status::invalid_argument, "no generation is in progress: call generate first");
    try {
        advance(event);
    } catch (...) {
        allowed_.keep(0);
        phase_ = Phase::idle;
        throw;
    }
}

void Session::advance(edgekit_event& event) {
    generation_.clear_news();  // the last event's text was valid until now
    for (;;) {
        if (moved_event(event)) return;
        if (!generation_.ended() && cancelled()) generation_.end(EDGEKIT_FINISH_CANCELLED);
        if (!generation_.ended()) {
            if (phase_ == Phase::decode) {
                decode_step();
                generation_.done.decode_ms = milliseconds_since(generation_.prefilled);
            } else {
                prefill_step();
            }
        }
        if (generation_.has_news()) return generation_.text_event(event);
        const bool at_once = generation_.ended() || evicted_reported_ == 0 || phase_ == Phase::prefill;
        if (evicted_event(event, at_once ? 1 : kEvictedAtATime)) return;
        if (generation_.ended()) {
            if (phase_ == Phase::decode) known_text_ = generation_.known_text();
            event = generation_.done;
            event.kind = EDGEKIT_EVENT_DONE;
            say_who(event);
            phase_ = Phase::idle;
            return;
        }
        if (generation_.prompt_events && phase_ == Phase::prefill) {
            event.kind = EDGEKIT_EVENT_PROMPT;
            event.prompt_tokens = generation_.done.prompt_tokens;
            event.cached_tokens =
                static_cast<uint32_t>(event.prompt_tokens - (prompt_.size() - prompt_done_));
            return;
        }
    }
}

void Session::reset() {
    phase_ = Phase::idle;
    pending_.reset();
    cache_.clear();
    known_text_ = {};
    evicted_reported_ = 0;
}

void Session::choose_sinks(uint32_t wanted) {
    const auto capacity = static_cast<uint32_t>(cache_.capacity());
    if (options_.sinks == EDGEKIT_SINKS_AUTO && cache_.can_set_sinks())
        cache_.set_sinks(std::max(kFewestSinks, std::min(wanted, capacity / kSinksShare)));
}

void Session::rewind(uint64_t count) {
    take_back(count);
    phase_ = Phase::idle;
    pending_.reset();
    known_text_ = {};
}

void Session::take_back(uint64_t count) {
    cache_.take_back(count);
    evicted_reported_ = std::min(evicted_reported_, cache_.evicted());
}

std::unique_ptr<Session> Session::fork() const {
    edgekit_session_options options = options_;
    options.window = plan_.cache.window;  // what was chosen for this session, whatever the budget says now
    options.chunk = plan_.cache.chunk;
    options.kv_type = plan_.memory.kv_type;
    options.sinks = plan_.cache.sinks;  // a companion's would put the cells elsewhere
    options.memory_budget_bytes = 0;
    auto copy = std::make_unique<Session>(model_, options);
    copy->options_.sinks = options_.sinks;
    copy->cache_.copy(cache_);
    copy->pending_ = pending_;
    copy->known_text_ = known_text_;
    return copy;
}

}  // namespace edgekit
