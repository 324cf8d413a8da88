#include "text/pattern.h"

#include <bit>
#include <string>

#include "error.h"
#include "text/unicode.h"

namespace edgekit::text {

namespace {

constexpr uint32_t max_depth = 128;  // pending choices: at most one per split and per run that can backtrack

void require(bool ok, const char* what) {
    if (!ok)
        throw Error(Status::invalid_file,
                    std::string("compiled tokenizer: ") + what + "; convert the model again");
}

bool in_ascii(const CharClass& c, uint8_t byte) { return c.ascii[byte >> 5] >> (byte & 31) & 1; }

}  // namespace

PatternMatcher::PatternMatcher(std::span<const Pattern> patterns, std::span<const Instruction> instructions,
                               std::span<const CharClass> classes, std::span<const CharRange> ranges)
    : patterns_(patterns), instructions_(instructions), classes_(classes), ranges_(ranges) {
    const size_t n = instructions.size();
    require(n == 0 || instructions[n - 1].opcode == static_cast<uint32_t>(Opcode::match),
            "a pattern does not end");
    uint32_t choices = 0;
    for (size_t i = n, next_match = n; i-- > 0;) {
        const Instruction& in = instructions[i];
        require(in.opcode <= static_cast<uint32_t>(Opcode::not_ahead), "unknown pattern instruction");
        const auto op = static_cast<Opcode>(in.opcode);
        if (op == Opcode::match) {
            next_match = i;
            choices = 0;
        }
        if (op == Opcode::split || (op == Opcode::run && in.backtrack)) ++choices;
        if (op == Opcode::split || op == Opcode::jump) {
            require(in.target > i && in.target <= next_match, "a pattern jumps backward or outside");
        }
        if (op == Opcode::run || op == Opcode::ahead || op == Opcode::not_ahead) {
            require(in.char_class < classes.size(), "a pattern names a class that is not there");
        }
        require(choices < max_depth, "a pattern has too many choices");
    }
    for (const CharClass& c : classes) {
        require(c.first_range <= ranges.size() && c.range_count <= ranges.size() - c.first_range,
                "a character class reads past its ranges");
    }
    for (const Pattern& p : patterns) {
        require(p.alternative_count <= max_alternatives, "a pattern has too many alternatives");
        const uint32_t unused = p.alternative_count == 32 ? 0 : ~0u << p.alternative_count;
        for (uint32_t i = 0; i < p.alternative_count; ++i) {
            require(p.alternatives[i] < n, "a pattern starts outside");
        }
        for (uint32_t mask : p.first)
            require((mask & unused) == 0, "a pattern starts with an alternative it lacks");
    }
}

bool PatternMatcher::contains(const CharClass& c, uint32_t code_point) const {
    if (code_point < 128) return in_ascii(c, static_cast<uint8_t>(code_point));
    bool found = c.categories != 0 && (c.categories >> static_cast<uint32_t>(category(code_point)) & 1);
    for (uint32_t i = 0; i < c.range_count && !found; ++i) {
        const CharRange& r = ranges_[c.first_range + i];
        found = code_point >= r.first && code_point <= r.last;
    }
    return found != (c.negated != 0);
}

const char* PatternMatcher::match_at(uint32_t start, const char* from, const char* end) const {
    struct Choice {
        uint32_t instruction;     // where to go on
        const char *at, *lowest;  // from `at`; as long as at > lowest there is a shorter run to try after
    };
    Choice choices[max_depth];
    uint32_t depth = 0;
    // A pattern of a real tokenizer gives up each code point at most a few times; one that a hostile file
    // brings may not spend more.
    uint64_t budget = 64 + 8 * static_cast<uint64_t>(end - from);
    const char* at = from;
    uint32_t pc = start;
    for (;;) {
        const Instruction& in = instructions_[pc];
        bool ok = true;
        switch (static_cast<Opcode>(in.opcode)) {
            case Opcode::match:
                return at;
            case Opcode::run: {
                const CharClass& c = classes_[in.char_class];
                const char* lowest = in.min == 0 ? at : nullptr;
                uint32_t count = 0;
                while (at < end && count < in.max) {
                    const auto byte = static_cast<uint8_t>(*at);
                    if (byte < 128) {
                        if (!in_ascii(c, byte)) break;
                        ++at;
                    } else {
                        const CodePoint point = decode_utf8(at);
                        if (!contains(c, point.value)) break;
                        at += point.length;
                    }
                    if (++count == in.min) lowest = at;
                }
                ok = lowest != nullptr;
                if (ok && in.backtrack && at > lowest) choices[depth++] = {pc + 1, at, lowest};
                ++pc;
                break;
            }
            case Opcode::split:
                choices[depth++] = {in.target, at, at};
                ++pc;
                break;
            case Opcode::jump:
                pc = in.target;
                break;
            case Opcode::ahead:
            case Opcode::not_ahead: {
                const bool found = at < end && contains(classes_[in.char_class], decode_utf8(at).value);
                ok = found == (static_cast<Opcode>(in.opcode) == Opcode::ahead);
                ++pc;
                break;
            }
        }
        if (ok) continue;
        if (depth == 0) return nullptr;
        if (budget-- == 0) {
            throw Error(Status::invalid_file,
                        "compiled tokenizer: a pattern backtracks without end; convert the model again");
        }
        Choice& choice = choices[depth - 1];
        pc = choice.instruction;
        if (choice.at > choice.lowest) {
            choice.at = previous_code_point(choice.at);
            at = choice.at;
            if (at == choice.lowest) --depth;
        } else {
            at = choice.at;
            --depth;
        }
    }
}

PatternMatcher::Match PatternMatcher::find(uint32_t pattern, const char* from, const char* end) const {
    const Pattern& p = patterns_[pattern];
    while (from < end) {
        const auto byte = static_cast<uint8_t>(*from);
        for (uint32_t mask = p.first[byte]; mask != 0; mask &= mask - 1) {
            const char* stop = match_at(p.alternatives[std::countr_zero(mask)], from, end);
            if (stop != nullptr && stop > from) return {from, stop};
        }
        from += sequence_length(byte);
    }
    return {end, end};
}

}  // namespace edgekit::text
