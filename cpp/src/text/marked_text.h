// Text that remembers which of its bytes its makers wrote and which came from outside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace edgekit {

enum class Origin : std::uint8_t {
    own,     // the chat template and its package
    caller,  // what the caller gives: system prompts, tools, documents, ...
    turn,    // of that, what is said in a conversation after its system prompts
};

struct MarkedText {
    struct Stretch {
        std::size_t begin, end;  // bytes
        Origin origin;           // never `own`
    };

    std::string bytes;
    std::vector<Stretch> marks;  // in order; of what lies between, the origin is `own`

    MarkedText() = default;
    explicit MarkedText(std::string text, Origin origin = Origin::own);

    void append(std::string_view text, Origin origin = Origin::own);
    void append(const MarkedText& text);
    MarkedText slice(std::size_t begin, std::size_t end) const;
    // In bytes of memory.
    std::size_t footprint() const { return bytes.size() + marks.size() * sizeof(Stretch); }
    // For what is made of the whole: that of the first bytes which are not `own`.
    Origin origin() const { return marks.empty() ? Origin::own : marks.front().origin; }
};

// Whether a byte of [begin, end) is marked.
bool is_marked(std::span<const MarkedText::Stretch> marks, std::size_t begin, std::size_t end);

}  // namespace edgekit
