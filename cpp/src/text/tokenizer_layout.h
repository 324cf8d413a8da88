#pragma once
// The compiled tokenizer, as converters/text/tokenizer.py writes it and as it is used in place.
//
//   Header | sections, each on 64 bytes, in the order of SectionId | little endian throughout
//
// What could be told from something else here is not stored. A token's text is its output, but for spaces and
// a few exceptions. What a merge makes is the token that both parts spell together: of a merge the length of
// its left part is stored, beside the token that it makes.

#include <cstdint>

namespace edgekit::text {

constexpr char tokenizer_magic[8] = {'E', 'D', 'G', 'E', 'T', 'O', 'K', '\n'};
constexpr uint32_t tokenizer_version = 2;

enum class SectionId : uint32_t {
    config,        // TokenizerConfig
    token_output,  // bytes: the tokens as decoding prints them, one after the other
    output_base,   // where they start: Offsets [vocab_size + 1]
    output_offset,
    respellings,  // Respelling, by rising ids: of the tokens flagged so
    token_flags,  // u8 [vocab_size], TokenFlag
    vocab_table,  // u32 [> vocab_slots]: text -> id
    merge_left,   // u8 or u16 [merges], grouped by the tokens made: bytes of the left part
    merge_base,   // where the merges that make a token start: Offsets [vocab_size + 1]
    merge_offset,
    merge_runs,       // MergeRun, by rising places: the ranks of merges
    byte_ids,         // i32 [256]: the token of a byte, or -1
    ascii_ids,        // i32 [128]: the token of an ASCII character, or -1 (models of characters)
    scores,           // f64 [vocab_size], Unigram
    vocab_trie,       // TrieNode, Unigram: text -> id
    added_tokens,     // AddedToken
    raw_trie,         // TrieNode: added tokens looked for in the text -> index into added_tokens
    normalized_trie,  // TrieNode: added tokens looked for in the normalized text
    normalizers,      // NormalizerStep
    pre_tokenizers,   // PreTokenizerStep
    patterns,         // Pattern
    instructions,     // Instruction
    char_classes,     // CharClass
    char_ranges,      // CharRange
    strings,          // bytes that steps refer to
    prefix_ids,       // i32: what add_special_tokens puts before the text
    suffix_ids,       // i32: and after it
    eos_ids,          // i32: every token that ends a generation
    count
};

struct Section {
    uint64_t offset, size;  // bytes from the start of the blob
};

struct TokenizerHeader {
    char magic[8];
    uint32_t version;
    uint32_t section_count;
    uint64_t total_bytes;
    Section sections[static_cast<uint32_t>(SectionId::count)];
};

struct StringRef {
    uint32_t offset, size;  // in `strings`
};

enum class ModelKind : uint32_t { bpe, unigram };

enum ModelFlag : uint32_t {
    byte_level = 1,     // BPE over bytes; else over characters
    byte_fallback = 2,  // an unknown character becomes its bytes' tokens
    fuse_unk = 4,       // neighbouring unknown characters are one unknown token
    ignore_merges = 8,  // a word in the vocabulary is its token, whatever the merges say
};

enum DecodeFlag : uint32_t {
    lossy_bytes = 1,  // outputs are bytes; what is not UTF-8 becomes U+FFFD (the ByteLevel decoder)
    byte_runs = 2,    // tokens flagged `byte` form runs; a run that is not UTF-8 becomes one U+FFFD a byte
                      // (ByteFallback)
    join_with_spaces = 4,  // no decoder: tokens with a space between
};

struct TokenizerConfig {
    uint32_t model;  // ModelKind
    uint32_t model_flags;
    uint32_t vocab_size;
    uint32_t vocab_slots;
    int32_t unk_id, bos_id, pad_id;  // -1: none
    uint32_t decode_flags;
    uint32_t strip_count;      // decoding drops up to this many leading `strip_character`s of the whole text
    uint32_t strip_character;  // code point
    uint32_t first_dropped;    // decoding drops this code point from the text of the first token; 0: none
    StringRef space_mark;      // what stands in texts for each space of an output; empty: the space
    uint32_t reserved;
    double unk_score;  // Unigram
};

enum TokenFlag : uint8_t {
    special = 1,
    present = 2,
    byte = 4,      // its output is one raw byte of a run
    whole = 8,     // BPE of its text is the token itself
    respelt = 16,  // its text does not follow from its output
};

// Numbers that rise slowly: base[i / 32] + offset[i], u32 [n / 32 + 1] and u16 [n + 1].
constexpr uint32_t offsets_block = 32;

// The vocabulary's hash table is open addressing without wrap-around: `vocab_slots` home positions, then
// spill; the last entry is empty, so that a probe always ends. Home position of a 64-bit hash h:
// (h >> 32) * vocab_slots >> 32. An entry is the low bits of the hash, then the id.
constexpr uint32_t vocab_id_bits = 20;
constexpr uint32_t vocab_empty = UINT32_MAX;

struct Respelling {
    int32_t id;
    StringRef text;
};

// From place `place` in `merge_left` on, ranks rise by one from `rank`.
struct MergeRun {
    uint32_t place, rank;
};

// A node's children lie together, sorted by label. Node 0 is the root.
struct TrieNode {
    uint32_t first_child;
    uint16_t child_count;
    uint8_t label;
    uint8_t reserved;
    int32_t value;  // -1: no entry ends here
};

enum AddedTokenFlag : uint32_t { single_word = 1, strip_left = 2, strip_right = 4, added_special = 8 };

struct AddedToken {
    int32_t id;
    uint32_t flags;
};

enum class NormalizerKind : uint32_t { nfc, nfkc, nfd, nfkd, prepend, replace, strip, charsmap };

// What bounds the growth of a text: bytes that a step puts in at one place, and steps.
constexpr uint32_t max_inserted_bytes = 64;
constexpr uint32_t max_steps = 16;

struct NormalizerStep {
    uint32_t kind;         // NormalizerKind
    int32_t pattern;       // replace
    StringRef text;        // prepend, replace: what is put in; charsmap: SentencePiece's precompiled_charsmap
    uint32_t left, right;  // strip: 1 to strip that side
};

enum class PreTokenizerKind : uint32_t { split, prefix_space, metaspace };
enum class SplitBehavior : uint32_t { isolated, removed, merged_with_previous, merged_with_next, contiguous };
enum class PrependScheme : uint32_t { never, first, always };

struct PreTokenizerStep {
    uint32_t kind;      // PreTokenizerKind
    int32_t pattern;    // split
    uint32_t behavior;  // split: SplitBehavior; metaspace: PrependScheme
    uint32_t invert;    // split: 1 when the pattern matches what stays
    StringRef text;     // metaspace: the replacement of a space
};

}  // namespace edgekit::text
