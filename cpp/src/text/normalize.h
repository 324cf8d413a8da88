#pragma once
// Unicode normalization forms and the other steps that rewrite a text before it is cut into words.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "text/pattern.h"
#include "text/tokenizer_layout.h"

namespace edgekit::text {

enum class NormalForm : uint32_t { nfc, nfkc, nfd, nfkd };

/// `text` (valid UTF-8) in a normal form (Unicode Standard Annex 15; data of Unicode 9). Stretches that
/// cannot change are copied, so text that is normal already costs one pass.
std::string normalize(std::string_view text, NormalForm form);

/// Runs the steps that a compiled tokenizer prescribes.
class Normalizer {
public:
    Normalizer() = default;
    /// Throws Error(invalid_file) when a step refers to what is not there.
    Normalizer(std::span<const NormalizerStep> steps, std::string_view strings, PatternMatcher patterns);

    /// True when apply() always returns its text.
    bool is_identity() const { return steps_.empty(); }

    std::string apply(std::string_view text) const;

private:
    std::string replace(const NormalizerStep& step, std::string_view text) const;

    std::span<const NormalizerStep> steps_;
    std::string_view strings_;
    PatternMatcher patterns_;
};

}  // namespace edgekit::text
