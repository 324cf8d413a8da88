#include <algorithm>

#include "text/tokenizer.h"
#include "text/unicode.h"

namespace edgekit {

using namespace text;

namespace {

// A run of byte tokens is judged as a whole, so it is held until it ends. A model that babbles bytes gets
// them from here on without waiting.
constexpr size_t longest_held_run = 1024;

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {
    held_.reserve(longest_held_run);
    append_utf8(strip_, tokenizer.config_->strip_character);
    if (tokenizer.config_->first_dropped != 0) append_utf8(first_dropped_, tokenizer.config_->first_dropped);
    reset();
}

void StreamDecoder::reset() {
    first_ = true;
    to_strip_ = tokenizer_->config_->strip_count;
    held_.clear();
}

std::string_view StreamDecoder::push(int32_t id) {
    text_.clear();
    if (!tokenizer_->known(id)) return {};
    const uint8_t flags = tokenizer_->vocabulary_.flags[id];
    if (!(flags & present) || (skip_special_tokens_ && (flags & special))) return {};
    const uint32_t mode = tokenizer_->config_->decode_flags;
    if ((mode & join_with_spaces) && !first_) append_text(" ");
    if ((mode & byte_runs) && (flags & byte)) {
        held_ += tokenizer_->vocabulary_.output(id);
        if (held_.size() >= longest_held_run) shorten_byte_run();
    } else {
        if (mode & byte_runs) end_byte_run();
        append_output(id);
    }
    first_ = false;
    return text_;
}

std::string_view StreamDecoder::flush() {
    text_.clear();
    if (tokenizer_->config_->decode_flags & lossy_bytes) {
        append_lossy({}, true);
    } else {
        end_byte_run();
    }
    reset();
    return text_;
}

std::string_view StreamDecoder::settle() {
    text_.clear();
    if (!(tokenizer_->config_->decode_flags & lossy_bytes)) shorten_byte_run();
    return text_;
}

void StreamDecoder::append_output(int32_t id) {
    const std::string_view output = tokenizer_->vocabulary_.output(id);
    if (tokenizer_->config_->decode_flags & lossy_bytes) {
        append_lossy(output, false);
    } else if (first_ && !first_dropped_.empty()) {
        const std::string text = tokenizer_->vocabulary_.text(id);
        std::string_view spelt = text;
        for (size_t mark; (mark = spelt.find(first_dropped_)) != spelt.npos;) {
            append_text(spelt.substr(0, mark));
            spelt.remove_prefix(mark + first_dropped_.size());
        }
        append_text(spelt);
    } else {
        append_text(output);
    }
}

void StreamDecoder::append_lossy(std::string_view bytes, bool last) {
    joined_.assign(held_).append(bytes);
    held_.clear();
    std::string_view rest = joined_;
    while (!rest.empty()) {
        unsigned length;
        const Utf8 kind = scan_utf8(rest, length);
        if (kind == Utf8::truncated && !last) {
            held_ = rest;
            return;
        }
        append_text(kind == Utf8::complete ? rest.substr(0, length) : replacement_utf8);
        rest.remove_prefix(length);
    }
}

void StreamDecoder::append_text(std::string_view text) {
    while (to_strip_ > 0 && !text.empty()) {
        const bool strips = text.starts_with(strip_);
        to_strip_ = strips ? to_strip_ - 1 : 0;
        if (strips) text.remove_prefix(strip_.size());
    }
    text_ += text;
}

void StreamDecoder::end_byte_run() {
    if (held_.empty()) return;
    if (find_invalid_utf8(held_) == held_.npos) {
        append_text(held_);
    } else {
        for (size_t i = 0; i < held_.size(); ++i) append_text(replacement_utf8);
    }
    held_.clear();
}

void StreamDecoder::shorten_byte_run() {
    const size_t whole_bytes = std::min(find_invalid_utf8(held_), held_.size());
    unsigned length;
    if (whole_bytes < held_.size() &&
        scan_utf8(std::string_view(held_).substr(whole_bytes), length) == Utf8::invalid) {
        end_byte_run();
        return;
    }
    append_text(std::string_view(held_).substr(0, whole_bytes));
    held_.erase(0, whole_bytes);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
    StreamDecoder decoder(*this, skip_special_tokens);
    std::string out;
    out.reserve(ids.size() * 4);
    for (int32_t id : ids) out += decoder.push(id);
    out += decoder.flush();
    return out;
}

}  // namespace edgekit
