#include "text/tokenizer.h"

#include <cstring>

#include "error.h"
#include "text/unicode.h"

namespace edgekit {

using namespace text;

namespace {

[[noreturn]] void fail(const std::string& what) {
    throw Error(Status::invalid_file, "compiled tokenizer: " + what + "; convert the model again");
}

void require(bool ok, const char* what) {
    if (!ok) fail(what);
}

/// Reads the sections of a blob, each within bounds, aligned and a whole number of elements.
class Sections {
public:
    explicit Sections(std::span<const std::byte> blob) : blob_(blob) {
        require(reinterpret_cast<uintptr_t>(blob.data()) % 8 == 0, "its address is not a multiple of 8");
        require(blob.size() >= sizeof(TokenizerHeader), "shorter than its header");
        header_ = reinterpret_cast<const TokenizerHeader*>(blob.data());
        require(std::memcmp(header_->magic, tokenizer_magic, sizeof tokenizer_magic) == 0,
                "wrong magic bytes");
        if (header_->version != tokenizer_version) {
            fail("version " + std::to_string(header_->version) + ", this edgekit reads version " +
                 std::to_string(tokenizer_version));
        }
        require(header_->section_count == static_cast<uint32_t>(SectionId::count),
                "wrong number of sections");
        require(header_->total_bytes <= blob.size(), "truncated");
        for (const Section& s : header_->sections) {
            require(s.offset % 64 == 0 && s.offset <= blob.size() && s.size <= blob.size() - s.offset,
                    "a section outside the file");
        }
    }

    template <class T>
    std::span<const T> get(SectionId id) const {
        const Section& s = header_->sections[static_cast<uint32_t>(id)];
        require(s.size % sizeof(T) == 0, "a section that is not a whole number of elements");
        return {reinterpret_cast<const T*>(blob_.data() + s.offset), static_cast<size_t>(s.size / sizeof(T))};
    }

private:
    std::span<const std::byte> blob_;
    const TokenizerHeader* header_;
};

void check_ids(std::span<const int32_t> ids, size_t vocab_size, bool none_allowed) {
    bool ok = true;
    for (int32_t id : ids)
        ok &= (id >= 0 && static_cast<size_t>(id) < vocab_size) || (none_allowed && id == -1);
    require(ok, "a token id outside the vocabulary");
}

void check_id(int32_t id, size_t vocab_size) { check_ids({&id, 1}, vocab_size, true); }

}  // namespace

Tokenizer Tokenizer::open(std::span<const std::byte> blob) {
    const Sections sections(blob);
    Tokenizer t;
    const auto config = sections.get<TokenizerConfig>(SectionId::config);
    require(config.size() == 1, "not one configuration");
    t.config_ = &config[0];
    const TokenizerConfig& c = config[0];
    const size_t vocab_size = c.vocab_size;
    require(vocab_size > 0 && vocab_size < 1u << 20, "a vocabulary of 0 or over a million tokens");
    require(c.model <= static_cast<uint32_t>(ModelKind::unigram), "an unknown kind of model");
    for (int32_t id : {c.unk_id, c.bos_id, c.pad_id}) check_id(id, vocab_size);
    require(c.strip_character <= 0x10FFFF && c.first_dropped <= 0x10FFFF, "a character outside Unicode");

    Vocabulary& v = t.vocabulary_;
    v.table = sections.get<uint32_t>(SectionId::vocab_table);
    v.slots = c.vocab_slots;
    require(v.table.size() > v.slots && v.table.back() == vocab_empty, "a vocabulary table without an end");
    bool entries_ok = true;
    for (uint32_t e : v.table)
        entries_ok &= e == vocab_empty || (e & ((1u << vocab_id_bits) - 1)) < vocab_size;
    require(entries_ok, "a vocabulary table with an id outside the vocabulary");
    const auto output_bytes = sections.get<char>(SectionId::token_output);
    v.output_start = {sections.get<uint32_t>(SectionId::output_base),
                      sections.get<uint16_t>(SectionId::output_offset)};
    v.output_bytes = output_bytes.data();
    v.flags = sections.get<uint8_t>(SectionId::token_flags);
    require(v.output_start.valid(vocab_size, output_bytes.size()), "token texts outside their section");
    require(v.flags.size() == vocab_size, "not one flag a token");
    const auto strings = sections.get<char>(SectionId::strings);
    t.strings_ = {strings.data(), strings.size()};
    const auto within = [&](StringRef s) {
        return s.offset <= strings.size() && s.size <= strings.size() - s.offset;
    };
    v.respellings = sections.get<Respelling>(SectionId::respellings);
    v.strings = strings.data();
    for (const Respelling& r : v.respellings) require(within(r.text), "a text outside the strings");
    require(within(c.space_mark), "a text outside the strings");
    v.space_mark = t.strings_.substr(c.space_mark.offset, c.space_mark.size);

    const auto byte_ids = sections.get<int32_t>(SectionId::byte_ids);
    require(byte_ids.size() == 256, "not one token a byte");
    check_ids(byte_ids, vocab_size, true);
    if (c.model == static_cast<uint32_t>(ModelKind::bpe)) {
        BpeModel& m = t.bpe_;
        m.vocabulary = v;
        m.merge_left = sections.get<uint8_t>(SectionId::merge_left);
        m.merge_start = {sections.get<uint32_t>(SectionId::merge_base),
                         sections.get<uint16_t>(SectionId::merge_offset)};
        m.merge_runs = sections.get<MergeRun>(SectionId::merge_runs);
        m.byte_ids = byte_ids;
        m.ascii_ids = sections.get<int32_t>(SectionId::ascii_ids);
        m.flags = c.model_flags;
        m.unk_id = c.unk_id;
        require(m.ascii_ids.size() == 128, "not one token an ASCII character");
        check_ids(m.ascii_ids, vocab_size, true);
        require(m.merge_start.valid(vocab_size, m.merge_left.size()), "merges outside their section");
        const uint32_t merges = m.merge_start[vocab_size];
        if (merges > 0) m.left_bytes = static_cast<uint32_t>(m.merge_left.size() / merges);
        require(m.left_bytes <= 2 && m.merge_left.size() == size_t{merges} * m.left_bytes,
                "not one left part a merge");
        require(merges == 0 || !m.merge_runs.empty(), "merges without a rank");
    } else {
        UnigramModel& m = t.unigram_;
        m.vocabulary = v;
        m.trie = Trie(sections.get<TrieNode>(SectionId::vocab_trie));
        m.scores = sections.get<double>(SectionId::scores);
        m.byte_ids = byte_ids;
        m.unk_score = c.unk_score;
        m.flags = c.model_flags;
        m.unk_id = c.unk_id;
        require(!m.trie.empty() && m.trie.valid(vocab_size), "a broken trie");
        require(m.scores.size() == vocab_size, "not one score a token");
    }

    t.added_tokens_ = sections.get<AddedToken>(SectionId::added_tokens);
    for (const AddedToken& a : t.added_tokens_) check_ids({&a.id, 1}, vocab_size, false);
    t.raw_trie_ = Trie(sections.get<TrieNode>(SectionId::raw_trie));
    t.normalized_trie_ = Trie(sections.get<TrieNode>(SectionId::normalized_trie));
    require(t.raw_trie_.valid(t.added_tokens_.size()) && t.normalized_trie_.valid(t.added_tokens_.size()),
            "a broken trie");
    for (unsigned byte = 0; byte < 256; ++byte) {
        if (is_continuation(static_cast<char>(byte))) continue;
        t.raw_starts_[byte] = t.raw_trie_.starts(static_cast<uint8_t>(byte));
        t.normalized_starts_[byte] = t.normalized_trie_.starts(static_cast<uint8_t>(byte));
    }

    t.patterns_ = PatternMatcher(
        sections.get<Pattern>(SectionId::patterns), sections.get<Instruction>(SectionId::instructions),
        sections.get<CharClass>(SectionId::char_classes), sections.get<CharRange>(SectionId::char_ranges));
    t.normalizer_ = Normalizer(sections.get<NormalizerStep>(SectionId::normalizers), t.strings_, t.patterns_);
    t.pre_tokenizers_ = sections.get<PreTokenizerStep>(SectionId::pre_tokenizers);
    require(t.pre_tokenizers_.size() <= max_steps, "more pre-tokenizers than 16");
    for (const PreTokenizerStep& step : t.pre_tokenizers_) {
        const auto kind = static_cast<PreTokenizerKind>(step.kind);
        require(kind <= PreTokenizerKind::metaspace, "an unknown pre-tokenizer");
        require(kind != PreTokenizerKind::split ||
                    static_cast<uint32_t>(step.pattern) < t.patterns_.pattern_count(),
                "a step names a pattern that is not there");
        require(within(step.text), "a step reads outside the strings");
        const std::string_view text = t.strings_.substr(step.text.offset, step.text.size);
        require(text.size() <= max_inserted_bytes && find_invalid_utf8(text) == text.npos,
                "a step puts in what is too long or not UTF-8");
    }

    t.prefix_ids_ = sections.get<int32_t>(SectionId::prefix_ids);
    t.suffix_ids_ = sections.get<int32_t>(SectionId::suffix_ids);
    t.eos_ids_ = sections.get<int32_t>(SectionId::eos_ids);
    for (const auto ids : {t.prefix_ids_, t.suffix_ids_, t.eos_ids_}) check_ids(ids, vocab_size, false);
    return t;
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
    return known(id) ? vocabulary_.output(id) : std::string_view();
}

int32_t Tokenizer::token_to_id(std::string_view text) const {
    int32_t id = -1;
    for (const Trie* trie : {&raw_trie_, &normalized_trie_}) {
        trie->prefixes(text, [&](size_t size, int32_t added) {
            if (size == text.size()) id = added_tokens_[added].id;
        });
        if (id >= 0) return id;
    }
    return vocabulary_.find(text);
}

}  // namespace edgekit
