#include "text/marked_text.h"

#include <algorithm>

namespace edgekit {

namespace {

using Stretch = MarkedText::Stretch;

// The first mark that ends behind `at`.
auto first_behind(std::span<const Stretch> marks, std::size_t at) {
    return std::partition_point(marks.begin(), marks.end(),
                                [at](const Stretch& mark) { return mark.end <= at; });
}

void mark(MarkedText& text, Stretch stretch) {
    Stretch* last = text.marks.empty() ? nullptr : &text.marks.back();
    if (last && last->end == stretch.begin && last->origin == stretch.origin)
        last->end = stretch.end;
    else
        text.marks.push_back(stretch);
}

}  // namespace

MarkedText::MarkedText(std::string text, Origin origin) : bytes(std::move(text)) {
    if (origin != Origin::own && !bytes.empty()) marks.push_back({0, bytes.size(), origin});
}

void MarkedText::append(std::string_view text, Origin origin) {
    if (origin != Origin::own && !text.empty())
        mark(*this, {bytes.size(), bytes.size() + text.size(), origin});
    bytes += text;
}

void MarkedText::append(const MarkedText& text) {
    const std::size_t start = bytes.size();
    for (const Stretch& each : text.marks) mark(*this, {start + each.begin, start + each.end, each.origin});
    bytes += text.bytes;
}

MarkedText MarkedText::slice(std::size_t begin, std::size_t end) const {
    MarkedText part(bytes.substr(begin, end - begin));
    const std::span all(marks);
    for (auto each = first_behind(all, begin); each != all.end() && each->begin < end; ++each) {
        part.marks.push_back(
            {std::max(each->begin, begin) - begin, std::min(each->end, end) - begin, each->origin});
    }
    return part;
}

bool is_marked(std::span<const Stretch> marks, std::size_t begin, std::size_t end) {
    const auto found = first_behind(marks, begin);
    return found != marks.end() && found->begin < end;
}

}  // namespace edgekit
