#include "engine/generation.h"

#include <algorithm>

#include "engine/lookup.h"

namespace edgekit {

double milliseconds_since(Generation::Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Generation::Clock::now() - start).count();
}

Generation::Generation(const edgekit_generate_options& options, const Model& model, uint64_t capacity)
    : prompt_events(options.prompt_events != 0),
      model_(&model),
      max_tokens_(options.max_tokens ? options.max_tokens : static_cast<uint32_t>(capacity)),
      ignore_eos_(options.ignore_eos != 0),
      stop_ids_(options.stop_ids, options.stop_ids + options.stop_ids_count) {
    model.check_ids(stop_ids_, "stop_ids");
    std::vector<std::string> stops;
    for (size_t i = 0; i < options.stops_count; ++i) {
        stops.emplace_back(options.stops[i].data, options.stops[i].size);
        // A special token prints nothing: its text never appears.
        const int32_t id = model.tokenizer() ? model.tokenizer()->token_to_id(stops.back()) : -1;
        if (id >= 0 && model.tokenizer()->is_special(id)) stop_ids_.push_back(id);
    }
    stops_ = StopText(std::move(stops));
    if (model.tokenizer()) decoder_.emplace(*model.tokenizer(), true);
    new_tokens_.reserve(1 + PromptLookup::kMaxDraft);
    new_text_.reserve(1024);
}

void Generation::begin_after(std::span<const int32_t> tail) {
    if (!decoder_) return;
    for (const int32_t id : tail) decoder_->push(id);
    decoder_->settle();
}

std::optional<edgekit_finish> Generation::ended_by(int32_t id) const {
    if (std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end()) return EDGEKIT_FINISH_STOP;
    if (!ignore_eos_ && model_->ends_text(id)) return EDGEKIT_FINISH_EOS;
    return std::nullopt;
}

void Generation::take(int32_t id) {
    if (const auto reason = ended_by(id)) {
        if (decoder_) say(stops_.push(decoder_->flush(), true));
        return end(*reason);
    }
    if (done.generated_tokens++ == 0) done.first_token_ms = milliseconds_since(started);
    new_tokens_.push_back(id);
    if (decoder_) {
        const std::string_view text = decoder_->push(id);
        say(stops_.push(text, !decoder_->holds()));
    }
    if (stops_.stopped())
        end(EDGEKIT_FINISH_STOP);
    else if (tokens_left() == 0)
        end(EDGEKIT_FINISH_LENGTH);
}

// The bytes of a code point that was begun are not given out: a text that goes on later completes it.
void Generation::end(edgekit_finish reason) {
    finish_ = done.finish = reason;
    if (!decoder_ || stops_.stopped()) return;
    say(stops_.push(decoder_->settle(), true));
    say(stops_.flush());
}

void Generation::say(std::string_view text) {
    new_text_ += text;
    if (spoken_) spoken_->append(text);
}

KnownText Generation::known_text() const {
    const bool all = spoken_ && !decoder_->holds() && !stops_.stopped();
    return all ? spoken_->known() : KnownText{};
}

void Generation::clear_news() {
    new_tokens_.clear();
    new_text_.clear();
}

void Generation::text_event(edgekit_event& event) const {
    event.kind = EDGEKIT_EVENT_TEXT;
    event.text = {new_text_.data(), new_text_.size()};
    event.tokens = new_tokens_.data();
    event.token_count = new_tokens_.size();
}

}  // namespace edgekit
