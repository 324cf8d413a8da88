#pragma once
// Text <-> token ids, from a tokenizer compiled by converters/text/tokenizer.py and used where it lies.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/bpe.h"
#include "text/marked_text.h"
#include "text/normalize.h"
#include "text/pattern.h"
#include "text/tokenizer_layout.h"
#include "text/trie.h"
#include "text/unigram.h"
#include "text/vocabulary.h"

namespace edgekit {

/// Immutable once open; any number of threads may use it at once.
class Tokenizer {
public:
    /// Uses `blob` in place: it must stay where it is, unchanged, as long as the tokenizer. 8-byte aligned.
    /// Throws Error(invalid_file) for a blob that is not a compiled tokenizer of this version, whole and
    /// consistent.
    static Tokenizer open(std::span<const std::byte> blob);

    /// Appends the ids of `text` to `out`. `add_special_tokens`: also what the tokenizer puts around a text
    /// (BOS and the like). `parse_special`: special tokens written in the text become their ids; else they
    /// are text like any other, and so they are where a byte of them is within `marks`. Throws
    /// Error(invalid_argument) when `text` is not UTF-8; `out` is then as it was.
    void encode(std::string_view text, bool add_special_tokens, bool parse_special, std::vector<int32_t>& out,
                std::span<const MarkedText::Stretch> marks = {}) const;

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD. Ids outside the vocabulary print nothing.
    std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const;

    /// What a token prints in the middle of a text: raw bytes, possibly a part of a code point. Empty for
    /// unknown ids.
    std::string_view token_bytes(int32_t id) const;

    /// The id of a token's exact text (as `token_bytes` has it, or as an added token is spelt), or -1.
    int32_t token_to_id(std::string_view text) const;

    bool is_special(int32_t id) const { return known(id) && (vocabulary_.flags[id] & text::special); }
    size_t vocab_size() const { return vocabulary_.flags.size(); }
    int32_t bos_id() const { return config_->bos_id; }                      // -1: none
    int32_t eos_id() const { return eos_ids_.empty() ? -1 : eos_ids_[0]; }  // -1: none
    int32_t pad_id() const { return config_->pad_id; }                      // -1: none
    std::span<const int32_t> eos_ids() const { return eos_ids_; }  // every token that ends a generation

private:
    friend class StreamDecoder;
    friend class TextEncoder;

    Tokenizer() = default;
    bool known(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < vocabulary_.flags.size(); }

    const text::TokenizerConfig* config_ = nullptr;
    text::Vocabulary vocabulary_;
    text::BpeModel bpe_;
    text::UnigramModel unigram_;
    text::PatternMatcher patterns_;
    text::Normalizer normalizer_;
    text::Trie raw_trie_, normalized_trie_;
    std::array<bool, 256> raw_starts_{}, normalized_starts_{};  // bytes that an added token can start with
    std::span<const text::AddedToken> added_tokens_;
    std::span<const text::PreTokenizerStep> pre_tokenizers_;
    std::string_view strings_;
    std::span<const int32_t> prefix_ids_, suffix_ids_, eos_ids_;
};

/// Decodes token by token. The pieces, joined, are what Tokenizer::decode returns for all ids at once.
class StreamDecoder {
public:
    /// `tokenizer` must outlive the decoder.
    explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens = false);

    /// The text that became certain with this token: whole code points, possibly none. Valid until the next
    /// call.
    std::string_view push(int32_t id);

    /// What is still held, at the end of the text; the decoder then starts a new text.
    std::string_view flush();

    /// The text that is certain although more may follow: all that is held, except a code point that was
    /// begun.
    std::string_view settle();

    /// Whether some of the text of the tokens pushed is still to come.
    bool holds() const { return !held_.empty(); }

    /// Starts a new text and forgets what is held.
    void reset();

private:
    void append_output(int32_t id);
    void append_lossy(std::string_view bytes, bool last);
    void append_text(std::string_view text);
    void end_byte_run();
    void shorten_byte_run();

    const Tokenizer* tokenizer_;
    bool skip_special_tokens_;
    bool first_ = true;      // no token was printed yet
    uint32_t to_strip_ = 0;  // leading characters still to drop
    std::string strip_, first_dropped_;
    std::string held_;           // bytes of an unfinished code point, or of an unfinished run
    std::string joined_, text_;  // working memory; text_ is what the last call returned
};

}  // namespace edgekit
