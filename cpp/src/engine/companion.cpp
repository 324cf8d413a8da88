#include "engine/companion.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace edgekit {

namespace {

// Two roundings of a model differ by a tenth or two of what its logits spread (root mean square), another
// model or a cache gone wrong by more than all of it.
constexpr double kMostError = 0.5;
constexpr size_t kIdsAtOnce = 256;

bool agree(std::span<const float> one, std::span<const float> other) {
    double sum = 0, squares = 0, apart = 0;
    for (size_t i = 0; i < one.size(); ++i) {
        sum += one[i];
        squares += double{one[i]} * one[i];
        apart += (double{one[i]} - other[i]) * (double{one[i]} - other[i]);
    }
    const double spread = squares - sum * sum / static_cast<double>(one.size());
    return apart <= kMostError * kMostError * spread;
}

std::string reason(const edgekit_error& error) {
    return error.message[0] ? error.message : "it gives no reason";
}

}  // namespace

Companion::Companion(const edgekit_companion& table) : table_(table) {
    if (table.name && table.state && table.open && table.close && table.append) {
        name_ = table.name;
        return;
    }
    if (table.release) table.release(table.context);
    throw Error(Status::invalid_argument, "the companion's table has a NULL that is not its release");
}

void Companion::check(uint32_t vocab_size) const {
    if (table_.vocab_size == vocab_size && table_.window > 0) return;
    throw Error(Status::invalid_argument, "the companion has " + std::to_string(table_.vocab_size) +
                                              " tokens and a window of " + std::to_string(table_.window) +
                                              ", the model " + std::to_string(vocab_size) +
                                              " tokens: convert both from one checkpoint");
}

Companion::~Companion() {
    if (table_.release) table_.release(table_.context);
}

CompanionText::CompanionText(Companion* companion, const CacheLayout& layout, uint32_t vocab_size)
    : companion_(layout.has_states() ? nullptr : companion), layout_(layout), vocab_size_(vocab_size) {}

CompanionText::~CompanionText() { close(); }

void CompanionText::close() {
    if (text_) companion_->table().close(companion_->table().context, text_);
    text_ = nullptr;
    held_ = most_held_ = 0;
}

void CompanionText::take_back(uint64_t end) {
    if (most_held_ <= end) return;
    if (most_held_ > companion_->capacity())
        close();  // what the tokens had pushed out of its ring is gone
    else
        held_ = std::min(held_, end);
}

std::optional<std::string> CompanionText::refusal(uint64_t size) const {
    const edgekit_companion& table = companion_->table();
    edgekit_error why;
    why.message[0] = '\0';
    switch (table.state(table.context, &why)) {
        case EDGEKIT_COMPANION_READY:
            break;
        case EDGEKIT_COMPANION_LOADING:
            return "";
        default:
            return reason(why);
    }
    const CacheOptions& own = layout_.options();
    if (size > std::min(own.capacity(), companion_->capacity()) &&
        (own.window != table.window || own.sinks != table.sinks))
        return "the text is longer than its cache, whose window of " + std::to_string(table.window) +
               " and " + std::to_string(table.sinks) + " sinks are not the session's";
    return std::nullopt;
}

void CompanionText::come_back(std::string_view why) {
    leads_ = false;
    why_ = why;
}

bool CompanionText::takes(const TokenHistory& tokens, size_t count) {
    if (!companion_ || failed_ || (!leads_ && (tokens.size() > 0 || !companion_->trusted))) return false;
    const auto why = refusal(tokens.size() + count);
    if (why && leads_) come_back(*why);
    leads_ = !why;
    return leads_;
}

bool CompanionText::run(std::span<const int32_t> ids, float* logits, const GiveUp& give_up) {
    const edgekit_companion& table = companion_->table();
    const edgekit_poll_fn poll = [](void* asked) -> int {
        const auto& given = *static_cast<const GiveUp*>(asked);
        return given && given();
    };
    edgekit_error error;
    error.message[0] = '\0';
    const edgekit_status status = table.append(table.context, text_, held_, ids.data(), ids.size(), logits,
                                               poll, const_cast<GiveUp*>(&give_up), &error);
    // Given up or failed, it may hold some of them.
    most_held_ = std::max(most_held_, held_ + ids.size());
    if (status == EDGEKIT_CANCELLED && give_up && give_up()) return false;
    if (status != EDGEKIT_OK) throw BackendFailure(reason(error));
    held_ += ids.size();
    if (logits && !std::all_of(logits, logits + vocab_size_, [](float x) { return std::isfinite(x); }))
        throw BackendFailure("some of its logits are no numbers");
    return true;
}

bool CompanionText::bring(const TokenHistory& tokens, uint64_t end, const GiveUp& give_up) {
    take_back(end);
    const edgekit_companion& table = companion_->table();
    if (!text_) {
        edgekit_error error;
        error.message[0] = '\0';
        if (table.open(table.context, &text_, &error) != EDGEKIT_OK) {
            text_ = nullptr;
            throw BackendFailure(reason(error));
        }
    }
    if (tokens.first() > held_) throw BackendFailure("the text's beginning is no longer known");
    int32_t ids[kIdsAtOnce];
    while (held_ < end) {
        const auto count = static_cast<size_t>(std::min<uint64_t>(kIdsAtOnce, end - held_));
        for (size_t i = 0; i < count; ++i) ids[i] = tokens.at(held_ + i);
        if (!run({ids, count}, nullptr, give_up)) return false;
    }
    return true;
}

std::optional<bool> CompanionText::append(const TokenHistory& tokens, std::span<const int32_t> ids,
                                          uint32_t wanted, float* logits, const GiveUp& give_up) {
    try {
        if (!bring(tokens, tokens.size(), give_up)) return false;
        // It gives one token's logits at a time.
        for (size_t done = 0, count = ids.size() - (wanted ? wanted - 1 : 0); done < ids.size();
             done += count, count = 1) {
            if (!run(ids.subspan(done, count), wanted ? logits : nullptr, give_up)) return false;
            logits += wanted ? vocab_size_ : 0;
        }
        return true;
    } catch (const BackendFailure& failure) {
        failed_ = true;
        come_back(failure.what());
        return std::nullopt;
    }
}

void CompanionText::follow(const TokenHistory& tokens, uint32_t wanted, const float* logits,
                           const GiveUp& give_up) {
    if (!companion_ || wanted == 0 || leads_ || failed_) return;
    if (const auto refused = refusal(tokens.size())) {
        why_ = *refused;
        return;
    }
    try {
        std::vector<float> own(vocab_size_);
        const int32_t last = tokens.at(tokens.size() - 1);
        if (!bring(tokens, tokens.size() - 1, give_up) || !run({&last, 1}, own.data(), give_up)) return;
        if (!agree({logits + size_t{wanted - 1} * vocab_size_, vocab_size_}, own))
            throw BackendFailure(
                "its logits are not this model's: convert both from one checkpoint, or try "
                "another scheme");
        companion_->trusted = leads_ = true;
        why_.clear();
    } catch (const BackendFailure& failure) {
        failed_ = true;
        why_ = failure.what();
    }
}

void CompanionText::forget() {
    if (failed_) close();
    if (companion_) take_back(0);
    leads_ = failed_ = false;
    why_.clear();
}

}  // namespace edgekit
