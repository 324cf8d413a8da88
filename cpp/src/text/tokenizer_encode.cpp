#include <algorithm>

#include "error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace edgekit {

using namespace text;

namespace {

bool is_word_character(uint32_t c) {
    switch (category(c)) {
        case Category::Ll:
        case Category::Lm:
        case Category::Lo:
        case Category::Lt:
        case Category::Lu:
        case Category::Mc:
        case Category::Me:
        case Category::Mn:
        case Category::Nd:
        case Category::Nl:
        case Category::Pc:
            return true;
        default:
            return c == 0x200C || c == 0x200D;
    }
}

bool ends_with_word(std::string_view text) {
    return !text.empty() &&
           is_word_character(decode_utf8(previous_code_point(text.data() + text.size())).value);
}

bool starts_with_word(std::string_view text) {
    return !text.empty() && is_word_character(decode_utf8(text.data()).value);
}

}  // namespace

/// One call of Tokenizer::encode: added tokens, then normalization, then words, then the model.
class TextEncoder {
public:
    TextEncoder(const Tokenizer& tokenizer, bool parse_special, std::span<const MarkedText::Stretch> marks,
                std::vector<int32_t>& out)
        : t_(tokenizer),
          marks_(marks),
          parse_special_(parse_special),
          out_(out),
          bpe_(tokenizer.bpe_),
          unigram_(tokenizer.unigram_),
          rewritten_(tokenizer.pre_tokenizers_.size()) {}

    void encode(std::string_view text) {
        const auto marked = [&](size_t begin, size_t end) { return is_marked(marks_, begin, end); };
        cut_added_tokens(t_.raw_trie_, t_.raw_starts_, text, marked, [&](std::string_view piece) {
            const auto start = static_cast<size_t>(piece.data() - text.data());
            if (t_.normalizer_.is_identity()) {
                encode_normalized(piece, start == 0, [&](size_t begin, size_t end) {
                    return marked(start + begin, start + end);
                });
            } else {
                // Where the normalizer put which byte is not known: all is marked if any was.
                const bool any = marked(start, start + piece.size());
                encode_normalized(t_.normalizer_.apply(piece), start == 0,
                                  [&](size_t, size_t) { return any; });
            }
        });
    }

private:
    void encode_normalized(std::string_view text, bool at_start, auto&& marked) {
        cut_added_tokens(
            t_.normalized_trie_, t_.normalized_starts_, text, marked,
            [&](std::string_view piece) { pre_tokenize(0, piece, at_start && piece.data() == text.data()); });
    }

    /// Appends the added tokens found in `text`; calls rest(piece) for what lies between, in order. The
    /// leftmost token wins, of those that start together the longest. marked(begin, end): whether a special
    /// token there is text.
    void cut_added_tokens(const Trie& trie, const std::array<bool, 256>& starts, std::string_view text,
                          auto&& marked, auto&& rest) {
        size_t done = 0;
        for (size_t at = 0; !trie.empty() && at < text.size();) {
            if (!starts[static_cast<uint8_t>(text[at])]) {
                ++at;
                continue;
            }
            size_t size = 0;
            int32_t index = 0;
            trie.prefixes(text.substr(at), [&](size_t matched, int32_t value) {
                if (at + matched < text.size() && is_continuation(text[at + matched])) return;
                if ((t_.added_tokens_[value].flags & added_special) && marked(at, at + matched)) return;
                size = matched;
                index = value;
            });
            if (size == 0) {
                ++at;
                continue;
            }
            const AddedToken& token = t_.added_tokens_[index];
            size_t begin = at, end = at + size;
            at = end;
            if (!parse_special_ && (token.flags & added_special)) continue;
            if ((token.flags & single_word) &&
                (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) {
                continue;
            }
            if (token.flags & strip_left) {
                while (begin > done) {
                    const char* before = previous_code_point(text.data() + begin);
                    if (!is_space(decode_utf8(before).value)) break;
                    begin = static_cast<size_t>(before - text.data());
                }
            }
            if (token.flags & strip_right) {
                while (end < text.size() && is_space(decode_utf8(text.data() + end).value)) {
                    end += sequence_length(static_cast<uint8_t>(text[end]));
                }
            }
            if (done < begin) rest(text.substr(done, begin - done));
            out_.push_back(token.id);
            done = end;
        }
        if (done < text.size()) rest(text.substr(done));
    }

    /// Runs the pre-tokenizers from `stage` on. `at_start`: `text` starts where the whole text starts.
    void pre_tokenize(size_t stage, std::string_view text, bool at_start) {
        if (text.empty()) return;
        if (stage == t_.pre_tokenizers_.size()) {
            encode_word(text);
            return;
        }
        const PreTokenizerStep& step = t_.pre_tokenizers_[stage];
        std::string& rewritten = rewritten_[stage];
        switch (static_cast<PreTokenizerKind>(step.kind)) {
            case PreTokenizerKind::split:
                split(step, text, [&](const char* begin, const char* end) {
                    pre_tokenize(stage + 1, {begin, static_cast<size_t>(end - begin)},
                                 at_start && begin == text.data());
                });
                break;
            case PreTokenizerKind::prefix_space:
                if (text[0] != ' ') {
                    rewritten.assign(1, ' ').append(text);
                    text = rewritten;
                }
                pre_tokenize(stage + 1, text, at_start);
                break;
            case PreTokenizerKind::metaspace: {
                const std::string_view mark = t_.strings_.substr(step.text.offset, step.text.size);
                const auto scheme = static_cast<PrependScheme>(step.behavior);
                const bool marked = text[0] == ' ' || text.starts_with(mark);
                rewritten.clear();
                if (!marked &&
                    (scheme == PrependScheme::always || (scheme == PrependScheme::first && at_start))) {
                    rewritten.append(mark);
                }
                for (size_t space; (space = text.find(' ')) != text.npos; text.remove_prefix(space + 1)) {
                    rewritten.append(text.substr(0, space)).append(mark);
                }
                rewritten.append(text);
                pre_tokenize(stage + 1, rewritten, at_start);
                break;
            }
        }
    }

    template <class Piece>
    void split(const PreTokenizerStep& step, std::string_view text, Piece&& piece) {
        const auto behavior = static_cast<SplitBehavior>(step.behavior);
        const auto pattern = static_cast<uint32_t>(step.pattern);
        const char *p = text.data(), *end = p + text.size();
        // Of the behaviors that join pieces: the piece that may still grow, and whether its last part was a
        // match.
        const char *pending = p, *pending_end = p;
        bool pending_match = false;
        const auto part = [&](const char* from, const char* to, bool match) {
            if (from == to) return;
            bool joins = false;
            switch (behavior) {
                case SplitBehavior::isolated:
                    piece(from, to);
                    return;
                case SplitBehavior::removed:
                    if (!match) piece(from, to);
                    return;
                case SplitBehavior::merged_with_previous:
                    joins = match && !pending_match;
                    break;
                case SplitBehavior::merged_with_next:
                    joins = !match && pending_match;
                    break;
                case SplitBehavior::contiguous:
                    joins = match == pending_match;
                    break;
            }
            if (!joins || pending == pending_end) {
                if (pending != pending_end) piece(pending, pending_end);
                pending = from;
            }
            pending_end = to;
            pending_match = match;
        };
        while (p < end) {
            const PatternMatcher::Match match = t_.patterns_.find(pattern, p, end);
            part(p, match.begin, step.invert != 0);
            part(match.begin, match.end, step.invert == 0);
            p = match.end;
        }
        if (pending != pending_end) piece(pending, pending_end);
    }

    void encode_word(std::string_view word) {
        if (t_.config_->model == static_cast<uint32_t>(ModelKind::bpe)) {
            bpe_.encode(word, out_);
        } else {
            unigram_.encode(word, out_);
        }
    }

    const Tokenizer& t_;
    const std::span<const MarkedText::Stretch> marks_;
    const bool parse_special_;
    std::vector<int32_t>& out_;
    BpeEncoder bpe_;
    UnigramEncoder unigram_;
    std::vector<std::string> rewritten_;  // by stage
};

void Tokenizer::encode(std::string_view text, bool add_special_tokens, bool parse_special,
                       std::vector<int32_t>& out, std::span<const MarkedText::Stretch> marks) const {
    if (const size_t at = find_invalid_utf8(text); at != text.npos) {
        throw Error(Status::invalid_argument, "the text is not UTF-8: byte " + std::to_string(at) + " is " +
                                                  std::to_string(static_cast<uint8_t>(text[at])) +
                                                  "; decode it as what it is and encode it as UTF-8");
    }
    if (add_special_tokens) out.insert(out.end(), prefix_ids_.begin(), prefix_ids_.end());
    TextEncoder(*this, parse_special, marks, out).encode(text);
    if (add_special_tokens) out.insert(out.end(), suffix_ids_.begin(), suffix_ids_.end());
}

}  // namespace edgekit
