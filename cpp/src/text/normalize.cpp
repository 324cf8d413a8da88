#include "text/normalize.h"

#include <algorithm>
#include <vector>

#include "error.h"
#include "text/charsmap.h"
#include "text/unicode.h"

namespace edgekit::text {

namespace {

// Hangul syllables compose and decompose by arithmetic (Unicode Standard, section 3.12).
constexpr uint32_t s_base = 0xAC00, l_base = 0x1100, v_base = 0x1161, t_base = 0x11A7;
constexpr uint32_t l_count = 19, v_count = 21, t_count = 28, s_count = l_count * v_count * t_count;

uint8_t property_row(uint32_t c) {
    const uint32_t block = tables::normalization_index[c >> tables::block_bits];
    return tables::normalization_blocks[(block << tables::block_bits) +
                                        (c & ((1u << tables::block_bits) - 1))];
}

uint8_t combining_class(uint32_t c) { return tables::normalization_ccc[property_row(c)]; }

bool unstable(uint32_t c, NormalForm form) {
    return tables::normalization_unstable[property_row(c)] >> static_cast<uint32_t>(form) & 1;
}

bool find_mapping(uint32_t c, const uint32_t* keys, size_t count, const uint16_t* starts,
                  const uint32_t* pool, std::vector<uint32_t>& out) {
    const uint32_t* key = std::lower_bound(keys, keys + count, c);
    if (key == keys + count || *key != c) return false;
    const size_t i = static_cast<size_t>(key - keys);
    out.insert(out.end(), pool + starts[i], pool + starts[i + 1]);
    return true;
}

void decompose(uint32_t c, bool compatibility, std::vector<uint32_t>& out) {
    using namespace tables;
    if (c >= s_base && c < s_base + s_count) {
        const uint32_t s = c - s_base;
        out.push_back(l_base + s / (v_count * t_count));
        out.push_back(v_base + s % (v_count * t_count) / t_count);
        if (s % t_count != 0) out.push_back(t_base + s % t_count);
        return;
    }
    if (compatibility && find_mapping(c, compatibility_keys, compatibility_count, compatibility_starts,
                                      compatibility_pool, out)) {
        return;
    }
    if (!find_mapping(c, canonical_keys, canonical_count, canonical_starts, canonical_pool, out))
        out.push_back(c);
}

/// The primary composite of two code points, or 0.
uint32_t compose_pair(uint32_t a, uint32_t b) {
    using namespace tables;
    if (a - l_base < l_count && b - v_base < v_count)
        return s_base + ((a - l_base) * v_count + b - v_base) * t_count;
    if (a - s_base < s_count && (a - s_base) % t_count == 0 && b - t_base - 1 < t_count - 1)
        return a + b - t_base;
    const uint32_t* end = composition_first + composition_count;
    for (const uint32_t* p = std::lower_bound(composition_first, end, a); p != end && *p == a; ++p) {
        if (composition_second[p - composition_first] == b) return composition_result[p - composition_first];
    }
    return 0;
}

/// Sorts each stretch of marks by combining class, equal ones in the order they came.
void order_marks(std::vector<uint32_t>& run) {
    const auto is_starter = [](uint32_t c) { return combining_class(c) == 0; };
    std::vector<uint64_t> keys;  // class, place, code point
    for (auto begin = run.begin(); begin != run.end();) {
        begin = std::find_if_not(begin, run.end(), is_starter);
        const auto end = std::find_if(begin, run.end(), is_starter);
        keys.clear();
        for (auto mark = begin; mark != end; ++mark) {
            keys.push_back(uint64_t{combining_class(*mark)} << 56 |
                           static_cast<uint64_t>(mark - begin) << 24 | *mark);
        }
        std::sort(keys.begin(), keys.end());
        std::transform(keys.begin(), keys.end(), begin,
                       [](uint64_t key) { return static_cast<uint32_t>(key & 0xFFFFFF); });
        begin = end;
    }
}

void compose(std::vector<uint32_t>& run) {
    size_t kept = 0;
    size_t starter = SIZE_MAX;  // index into what was kept
    int last_class = -1;        // of what was kept after the starter; -1: nothing
    for (uint32_t c : run) {
        const int ccc = combining_class(c);
        if (starter != SIZE_MAX && last_class < ccc) {
            if (const uint32_t composite = compose_pair(run[starter], c)) {
                run[starter] = composite;
                continue;
            }
        }
        if (ccc == 0) {
            starter = kept;
            last_class = -1;
        } else {
            last_class = ccc;
        }
        run[kept++] = c;
    }
    run.resize(kept);
}

}  // namespace

std::string normalize(std::string_view text, NormalForm form) {
    const bool compatibility = form == NormalForm::nfkc || form == NormalForm::nfkd;
    const bool composing = form == NormalForm::nfc || form == NormalForm::nfkc;
    const char *p = text.data(), *end = p + text.size();
    const char* copied = p;  // everything before is in `out`
    const char* last = p;    // the start of the code point before p
    std::string out;
    std::vector<uint32_t> run;
    while (p < end) {
        if (static_cast<uint8_t>(*p) < 0x80) {
            last = p++;
            continue;
        }
        CodePoint point = decode_utf8(p);
        if (!unstable(point.value, form)) {
            last = p;
            p += point.length;
            continue;
        }
        // The code point before a run may take part in it; the stable one after it cannot.
        if (out.empty()) out.reserve(text.size() + text.size() / 8);
        out.append(copied, last);
        run.clear();
        for (p = last; p < end; p += point.length) {
            point = decode_utf8(p);
            if (p != last && !unstable(point.value, form)) break;
            decompose(point.value, compatibility, run);
        }
        order_marks(run);
        if (composing) compose(run);
        for (uint32_t c : run) append_utf8(out, c);
        copied = last = p;
    }
    out.append(copied, end);
    return out;
}

Normalizer::Normalizer(std::span<const NormalizerStep> steps, std::string_view strings,
                       PatternMatcher patterns)
    : steps_(steps), strings_(strings), patterns_(patterns) {
    bool ok = steps.size() <= max_steps;
    for (const NormalizerStep& step : steps) {
        const auto kind = static_cast<NormalizerKind>(step.kind);
        ok = ok && kind <= NormalizerKind::charsmap && step.text.offset <= strings.size() &&
             step.text.size <= strings.size() - step.text.offset;
        if (ok && kind != NormalizerKind::charsmap) {
            const std::string_view inserted = strings.substr(step.text.offset, step.text.size);
            ok = inserted.size() <= max_inserted_bytes && find_invalid_utf8(inserted) == inserted.npos;
        }
        if (kind == NormalizerKind::replace)
            ok = ok && static_cast<uint32_t>(step.pattern) < patterns_.pattern_count();
    }
    if (!ok)
        throw Error(Status::invalid_file,
                    "compiled tokenizer: a broken normalizer step; convert the model again");
}

std::string Normalizer::replace(const NormalizerStep& step, std::string_view text) const {
    const std::string_view with = strings_.substr(step.text.offset, step.text.size);
    std::string out;
    out.reserve(text.size() + text.size() / 2);
    const char *p = text.data(), *end = p + text.size();
    while (p < end) {
        const PatternMatcher::Match match = patterns_.find(static_cast<uint32_t>(step.pattern), p, end);
        out.append(p, match.begin);
        if (match.begin == match.end) break;
        out.append(with);
        p = match.end;
    }
    return out;
}

std::string Normalizer::apply(std::string_view text) const {
    std::string current(text);
    for (const NormalizerStep& step : steps_) {
        const std::string_view argument = strings_.substr(step.text.offset, step.text.size);
        switch (static_cast<NormalizerKind>(step.kind)) {
            case NormalizerKind::nfc:
            case NormalizerKind::nfkc:
            case NormalizerKind::nfd:
            case NormalizerKind::nfkd:
                current = normalize(current, static_cast<NormalForm>(step.kind));
                break;
            case NormalizerKind::prepend:
                if (!current.empty()) current.insert(0, argument);
                break;
            case NormalizerKind::replace:
                current = replace(step, current);
                break;
            case NormalizerKind::strip: {
                size_t begin = 0, stop = current.size();
                while (step.left && begin < stop && is_space(decode_utf8(&current[begin]).value)) {
                    begin += sequence_length(static_cast<uint8_t>(current[begin]));
                }
                while (step.right && stop > begin) {
                    const auto before =
                        static_cast<size_t>(previous_code_point(&current[stop]) - current.data());
                    if (!is_space(decode_utf8(&current[before]).value)) break;
                    stop = before;
                }
                current = current.substr(begin, stop - begin);
                break;
            }
            case NormalizerKind::charsmap:
                current = apply_charsmap(argument, current);
                break;
        }
        // No real tokenizer comes near; steps that double the text, one after the other, would.
        if (current.size() > 4096 + 16 * text.size()) {
            throw Error(Status::invalid_file,
                        "compiled tokenizer: normalizing " + std::to_string(text.size()) +
                            " bytes makes over 16 times as many; convert the model again");
        }
    }
    return current;
}

}  // namespace edgekit::text
