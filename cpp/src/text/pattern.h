#pragma once
// Regular expressions compiled at conversion (converters/text/pattern.py), matched by backtracking in the
// order that Oniguruma would. Jumps lead forward only, so a match visits each instruction at most once per
// path.

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace edgekit::text {

enum class Opcode : uint32_t {
    match,
    run,        // `char_class` min to max times, as often as possible
    split,      // try the next instruction, then `target`
    jump,       // to `target`
    ahead,      // the next code point is in `char_class`
    not_ahead,  // the text ends, or the next code point is not in `char_class`
};

struct Instruction {
    uint32_t opcode;
    uint32_t char_class;
    uint32_t min, max;   // run; max = UINT32_MAX: no limit
    uint32_t backtrack;  // run: 1 when what follows can fail, so that shorter runs must be tried
    uint32_t target;     // split, jump: index of an instruction
};

struct CharRange {
    uint32_t first, last;
};

// A code point is in the class when it is ASCII and its bit is set, or when it is not ASCII and
// (its category is set, or a range holds it) != negated.
struct CharClass {
    uint32_t ascii[4];
    uint32_t categories;  // bit = Category
    uint32_t negated;
    uint32_t first_range, range_count;
};

constexpr uint32_t max_alternatives = 32;

struct Pattern {
    uint32_t alternative_count;
    uint32_t alternatives[max_alternatives];  // index of the first instruction of each
    uint32_t first[256];                      // bit i: alternative i can start with this byte
};

class PatternMatcher {
public:
    PatternMatcher() = default;
    /// Throws Error(invalid_file) when an index leads outside or backward.
    PatternMatcher(std::span<const Pattern> patterns, std::span<const Instruction> instructions,
                   std::span<const CharClass> classes, std::span<const CharRange> ranges);

    size_t pattern_count() const { return patterns_.size(); }

    /// The first match at or after `from` in valid UTF-8: {begin, end}, or {end, end} of the text when there
    /// is none.
    struct Match {
        const char *begin, *end;
    };
    Match find(uint32_t pattern, const char* from, const char* end) const;

private:
    const char* match_at(uint32_t instruction, const char* from, const char* end) const;
    bool contains(const CharClass& char_class, uint32_t code_point) const;

    std::span<const Pattern> patterns_;
    std::span<const Instruction> instructions_;
    std::span<const CharClass> classes_;
    std::span<const CharRange> ranges_;
};

}  // namespace edgekit::text
