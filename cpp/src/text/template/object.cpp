#include "text/template/object.h"

#include <algorithm>
#include <span>

#include "text/template/python_text.h"

namespace edgekit::tmpl {

namespace {

std::string quoted(std::string_view name) { return "'" + std::string(name) + "'"; }

bool is_one_of(std::string_view name, auto&& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// As jinja2's messages name it.
std::string description(const Value& object) {
    return object.is_none() ? "None" : std::string(type_name(object)) + " object";
}

Value no_attribute(const Value& object, std::string_view name) {
    return Heap::undefined(quoted(description(object)) + " has no attribute " + quoted(name));
}

// ---- methods

struct Call {
    Heap& heap;
    const Value& self;
    std::string_view name;
    const Arguments& arguments;

    const Text& text() const { return *self.text(); }
    std::string_view bytes() const { return self.text()->bytes; }
    // Strings of the same kind as the one whose method this is: a part of it, and what is made of it.
    Value part(std::string_view of_text) const {
        const auto start = static_cast<std::size_t>(of_text.data() - bytes().data());
        return heap.text(text().slice(start, start + of_text.size()), text().safe);
    }
    Value make(MarkedText result) const { return heap.text(std::move(result), text().safe); }

    // Argument number `i`, also by its name where the method has names; null when it is absent.
    const Value* argument(std::size_t i, std::string_view parameter = {}) const {
        if (i < arguments.positional.size()) return &arguments.positional[i];
        for (const auto& [key, value] : arguments.named) {
            if (!parameter.empty() && key == parameter) return &value;
        }
        return nullptr;
    }
    void expect(std::size_t least, std::size_t most,
                std::initializer_list<std::string_view> names = {}) const {
        const std::size_t n = arguments.positional.size() + arguments.named.size();
        if (n < least || n > most)
            fail(std::string(name) + "() takes from " + std::to_string(least) + " to " +
                 std::to_string(most) + " arguments, not " + std::to_string(n));
        for (const auto& [key, value] : arguments.named) {
            if (!is_one_of(key, names)) fail(std::string(name) + "() has no keyword argument " + quoted(key));
        }
    }
    std::string_view string(std::size_t i) const {
        return expect_text(arguments.positional.at(i), std::string(name) + "()'s argument").bytes;
    }
    std::optional<std::string_view> optional_string(std::size_t i, std::string_view parameter = {}) const {
        const Value* value = argument(i, parameter);
        if (!value || value->is_none()) return std::nullopt;
        return expect_text(*value, std::string(name) + "()'s argument").bytes;
    }
    std::int64_t integer(std::size_t i, std::int64_t otherwise, std::string_view parameter = {}) const {
        const Value* value = argument(i, parameter);
        return value ? expect_int(*value, std::string(name) + "()'s argument") : otherwise;
    }
    // text[start:end], of the arguments `i` and `i + 1`, and the code points before it. Nothing when start
    // lies behind the text.
    std::optional<std::pair<std::string_view, std::int64_t>> window(std::size_t i) const {
        const auto n = static_cast<std::int64_t>(text().length);
        const auto bound = [&](std::size_t at, std::int64_t otherwise) {
            const Value* value = argument(at);
            std::int64_t bound = value && !value->is_none() ? integer(at, 0) : otherwise;
            return bound < 0 ? std::max<std::int64_t>(bound + n, 0) : bound;
        };
        const std::int64_t start = bound(i, 0), end = std::min(bound(i + 1, n), n);
        if (start > n || start > end) return std::nullopt;
        const std::size_t first = byte_of(bytes(), static_cast<std::size_t>(start));
        const std::size_t last = byte_of(bytes(), static_cast<std::size_t>(end));
        return std::pair{bytes().substr(first, last - first), start};
    }
    Value pieces(const Pieces& parts) const {
        Values items;
        for (const std::string_view each : parts) items.push_back(part(each));
        return heap.list(std::move(items));
    }
};

using MethodFunction = Value (*)(const Call&);
struct MethodEntry {
    std::string_view name;
    MethodFunction function;
};

template <std::string (*convert)(std::string_view)>
Value converted(const Call& call) {
    call.expect(0, 0);
    call.heap.handle(call.bytes().size());
    return call.make(MarkedText(convert(call.bytes()), call.text().origin()));
}

template <Side side>
Value stripped(const Call& call) {
    call.expect(0, 1);
    call.heap.handle(call.bytes().size());
    return call.part(strip(call.bytes(), call.optional_string(0), side));
}

template <Pieces (*splitter)(std::string_view, std::optional<std::string_view>, std::int64_t)>
Value split_by(const Call& call) {
    call.expect(0, 2, {"sep", "maxsplit"});
    call.heap.handle(call.bytes().size());
    const auto separator = call.optional_string(0, "sep");
    if (separator && separator->empty()) fail("empty separator");
    return call.pieces(splitter(call.bytes(), separator, call.integer(1, -1, "maxsplit")));
}

template <bool at_end>
Value starts_or_ends(const Call& call) {
    call.expect(1, 3);
    const auto window = call.window(1);
    const auto matches = [&](const Value& part) {
        const std::string_view bytes = expect_text(part, "startswith()'s or endswith()'s argument").bytes;
        return window && (at_end ? window->first.ends_with(bytes) : window->first.starts_with(bytes));
    };
    const Value& part = call.arguments.positional.at(0);
    if (!part.is_tuple()) return matches(part);
    const Values& parts = part.sequence()->items;
    return std::any_of(parts.begin(), parts.end(), matches);
}

template <bool from_right>
Value find_part(const Call& call) {
    call.expect(1, 3);
    call.heap.handle(call.bytes().size());
    const std::string_view part = call.string(0);
    const auto window = call.window(1);
    std::size_t found = std::string_view::npos;
    if (window) found = from_right ? window->first.rfind(part) : window->first.find(part);
    if (found == std::string_view::npos) return std::int64_t{-1};
    return window->second + static_cast<std::int64_t>(count_code_points(window->first.substr(0, found)));
}

template <bool from_right>
Value partitioned(const Call& call) {
    call.expect(1, 1);
    const std::string_view bytes = call.bytes(), separator = call.string(0);
    if (separator.empty()) fail("empty separator");
    const std::size_t at = from_right ? bytes.rfind(separator) : bytes.find(separator);
    if (at == bytes.npos) {
        const Value none = call.heap.text(""), all = call.part(bytes);
        return from_right ? call.heap.tuple({none, none, all}) : call.heap.tuple({all, none, none});
    }
    const std::size_t end = at + separator.size();
    return call.heap.tuple({call.part(bytes.substr(0, at)), call.part(bytes.substr(at, separator.size())),
                            call.part(bytes.substr(end))});
}

Value replaced(const Call& call) {
    call.expect(2, 3);
    const std::string_view from = call.string(0);
    call.string(1);
    const MarkedText with = added(*call.arguments.positional[1].text(), call.text().safe);
    call.heap.handle(call.bytes().size());
    const std::uint64_t n = count(call.bytes(), from);
    call.heap.reserve(call.text().footprint() + n * (with.footprint() + sizeof(MarkedText::Stretch)));
    return call.make(replace(call.text(), from, with, call.integer(2, -1)));
}

Value joined(const Call& call) {
    call.expect(1, 1);
    const auto next = iterate(call.heap, call.arguments.positional.at(0));
    MarkedText out;
    bool first = true;
    for (Value item; next(item); first = false) {
        if (!first) out.append(call.text());
        const Text& text = expect_text(item, "an item of join()");
        out.append(added(text, call.text().safe));
        call.heap.reserve(out.footprint());
    }
    return call.make(std::move(out));
}

Value count_part(const Call& call) {
    call.expect(1, 3);
    call.heap.handle(call.bytes().size());
    const auto window = call.window(1);
    return static_cast<std::int64_t>(window ? count(window->first, call.string(0)) : 0);
}

Value without_prefix(const Call& call) {
    call.expect(1, 1);
    const std::string_view prefix = call.string(0), bytes = call.bytes();
    return call.part(bytes.starts_with(prefix) ? bytes.substr(prefix.size()) : bytes);
}

Value without_suffix(const Call& call) {
    call.expect(1, 1);
    const std::string_view suffix = call.string(0), bytes = call.bytes();
    return call.part(bytes.ends_with(suffix) ? bytes.substr(0, bytes.size() - suffix.size()) : bytes);
}

Value split_to_lines(const Call& call) {
    call.expect(0, 1, {"keepends"});
    const Value* keep = call.argument(0, "keepends");
    return call.pieces(split_lines(call.bytes(), keep && truth(call.heap, *keep)));
}

constexpr MethodEntry text_methods[] = {
    {"capitalize", converted<capitalize>},
    {"count", count_part},
    {"endswith", starts_or_ends<true>},
    {"find", find_part<false>},
    {"join", joined},
    {"lower", converted<lower>},
    {"lstrip", stripped<Side::left>},
    {"partition", partitioned<false>},
    {"removeprefix", without_prefix},
    {"removesuffix", without_suffix},
    {"replace", replaced},
    {"rfind", find_part<true>},
    {"rpartition", partitioned<true>},
    {"rsplit", split_by<rsplit>},
    {"rstrip", stripped<Side::right>},
    {"split", split_by<split>},
    {"splitlines", split_to_lines},
    {"startswith", starts_or_ends<false>},
    {"strip", stripped<Side::both>},
    {"title", converted<title>},
    {"upper", converted<upper>},
};

Value get_key(const Call& call) {
    call.expect(1, 2);
    if (const Value* found = call.self.dict()->find(call.heap, call.arguments.positional.at(0)))
        return *found;
    const Value* otherwise = call.argument(1);
    return otherwise ? *otherwise : Value(None{});
}

template <View::Kind kind>
Value view_of(const Call& call) {
    call.expect(0, 0);
    return std::make_shared<const View>(View{kind, *call.self.get<std::shared_ptr<const Dict>>()});
}

constexpr MethodEntry dict_methods[] = {
    {"get", get_key},
    {"items", view_of<View::items>},
    {"keys", view_of<View::keys>},
    {"values", view_of<View::values>},
};

std::span<const MethodEntry> methods_of(const Value& value) {
    if (value.text()) return text_methods;
    if (value.dict()) return dict_methods;
    return {};
}

std::optional<Value> loop_attribute(Heap& heap, Loop& loop, std::string_view name) {
    if (name == "index") return loop.index0 + 1;
    if (name == "index0") return loop.index0;
    if (name == "revindex") return loop.length(heap) - loop.index0;
    if (name == "revindex0") return loop.length(heap) - loop.index0 - 1;
    if (name == "first") return loop.index0 == 0;
    if (name == "last") return !loop.peek().has_value();
    if (name == "length") return loop.length(heap);
    if (name == "previtem")
        return loop.index0 > 0 ? *loop.before : Heap::undefined("there is no previous item");
    if (name == "nextitem") return loop.peek() ? *loop.peek() : Heap::undefined("there is no next item");
    return std::nullopt;
}

// What Python's getattr() finds; nothing when there is none.
std::optional<Value> own_attribute(Heap& heap, const Value& object, std::string_view name) {
    for (const MethodEntry& method : methods_of(object)) {
        if (method.name == name) return heap.method(object, name);
    }
    if (Namespace* name_space = object.name_space()) {
        const Value* found = name_space->find(name);
        return found ? std::optional(*found) : std::nullopt;
    }
    if (Loop* loop = object.loop()) return loop_attribute(heap, *loop, name);
    return std::nullopt;
}

// What obj[key] finds; nothing also where Python raises TypeError or LookupError.
std::optional<Value> own_item(Heap& heap, const Value& object, const Value& key) {
    if (const Dict* dict = object.dict()) {
        if ((key.sequence() && !key.is_tuple()) || key.dict()) return std::nullopt;
        const Value* found = dict->find(heap, key);
        return found ? std::optional(*found) : std::nullopt;
    }
    if (object.view()) return std::nullopt;
    const auto index = key.integer();
    const auto size = length(object);
    if (!index || !size) return std::nullopt;
    const std::int64_t at = *index < 0 ? *index + *size : *index;
    if (at < 0 || at >= *size) return std::nullopt;
    if (const List* list = object.sequence()) return list->items[static_cast<std::size_t>(at)];
    if (const Range* range = object.range()) return range->start + range->step * at;
    const Text& text = *object.text();
    const bool ascii = text.length == text.bytes.size();
    heap.handle(ascii ? 0 : text.bytes.size());
    const std::size_t start =
        ascii ? static_cast<std::size_t>(at) : byte_of(text.bytes, static_cast<std::size_t>(at));
    std::size_t end = start;
    next_code_point(text.bytes, end);
    return heap.text(text.slice(start, end), text.safe);
}

}  // namespace

Value attribute(Heap& heap, const Value& object, std::string_view name) {
    if (object.is_undefined()) fail_undefined(object);
    if (auto found = own_attribute(heap, object, name)) return *found;
    if (const Dict* dict = object.dict()) {
        if (const Value* found = dict->find(name)) return *found;
    }
    return no_attribute(object, name);
}

Value item(Heap& heap, const Value& object, const Value& key) {
    if (object.is_undefined()) fail_undefined(object);
    if (auto found = own_item(heap, object, key)) return *found;
    if (const Text* name = key.text()) {
        if (auto found = own_attribute(heap, object, name->bytes)) return *found;
        return no_attribute(object, name->bytes);
    }
    return Heap::undefined(description(object) + " has no element " +
                           (key.number() ? to_text(heap, key).bytes : std::string(type_name(key))));
}

Value item_at_path(Heap& heap, const Value& object, const Value& path, const Value& fallback) {
    const auto step = [&](const Value& from, const Value& key) {
        const Value found = item(heap, from, key);
        return found.is_undefined() && !fallback.is_none() ? fallback : found;
    };
    if (path.is_none()) return object;
    if (path.integer()) return step(object, path);
    Value value = object;
    for (const std::string_view part : split(expect_text(path, "an attribute's name").bytes, ".", -1)) {
        const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
        const bool is_number =
            !part.empty() && part.size() < 18 && std::all_of(part.begin(), part.end(), is_digit);
        value = step(value, is_number ? Value(std::int64_t{std::stoll(std::string(part))})
                                      : heap.text(std::string(part)));
    }
    return value;
}

Value slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step) {
    if (object.is_undefined()) fail_undefined(object);
    const Text* text = object.text();
    const List* list = object.sequence();
    const Range* range = object.range();
    if (!text && !list && !range) fail(quoted(type_name(object)) + " object cannot be sliced");
    const auto n = *length(object);
    const auto bound = [&](const Value& value, std::int64_t otherwise, std::int64_t low, std::int64_t high) {
        if (value.is_none()) return otherwise;
        const std::int64_t at = expect_int(value, "a slice's bound");
        return std::clamp(at < 0 ? at + n : at, low, high);
    };
    const std::int64_t stride = step.is_none() ? 1 : expect_int(step, "a slice's step");
    if (stride == 0) fail("slice step cannot be zero");
    const bool up = stride > 0;
    const std::int64_t low = up ? 0 : -1, high = up ? n : n - 1;
    const std::int64_t first = bound(start, up ? 0 : n - 1, low, high);
    const std::int64_t last = bound(stop, up ? n : -1, low, high);
    const auto inside = [&](std::int64_t i) { return up ? i < last : i > last; };
    const auto magnitude = std::min<std::int64_t>(std::abs(std::max(stride, -n - 1)), n + 1);
    const std::int64_t advance = up ? magnitude : -magnitude;
    if (range) {
        const std::int64_t span = up ? last - first : first - last;
        return std::make_shared<const Range>(Range{range->start + range->step * first, range->step * advance,
                                                   span > 0 ? (span - 1) / magnitude + 1 : 0});
    }
    if (list) {
        Values items;
        for (std::int64_t i = first; inside(i); i += advance)
            items.push_back(list->items[static_cast<std::size_t>(i)]);
        return object.is_tuple() ? heap.tuple(std::move(items)) : heap.list(std::move(items));
    }
    heap.handle(text->bytes.size());
    if (advance == 1) {
        const std::size_t begin = byte_of(text->bytes, static_cast<std::size_t>(first));
        const std::size_t end = byte_of(text->bytes, static_cast<std::size_t>(std::max(first, last)));
        return heap.text(text->slice(begin, end), text->safe);
    }
    heap.reserve(4 * text->length);
    const std::u32string code_points = decode(text->bytes);
    std::u32string chosen;
    for (std::int64_t i = first; inside(i); i += advance) chosen += code_points[static_cast<std::size_t>(i)];
    return heap.text(MarkedText(encode(chosen), text->origin()), text->safe);
}

Value call_method(Heap& heap, const Method& method, const Arguments& arguments) {
    const auto methods = methods_of(method.self);
    const auto found = std::find_if(methods.begin(), methods.end(),
                                    [&](const MethodEntry& entry) { return entry.name == method.name; });
    return found->function(Call{heap, method.self, method.name, arguments});
}

Value make_range(const Values& bounds) {
    const std::int64_t start = bounds.size() > 1 ? expect_int(bounds[0], "range()'s argument") : 0;
    const std::int64_t stop = expect_int(bounds[bounds.size() > 1 ? 1 : 0], "range()'s argument");
    const std::int64_t step = bounds.size() > 2 ? expect_int(bounds[2], "range()'s argument") : 1;
    if (step == 0) fail("range() arg 3 must not be zero");
    const bool empty = step > 0 ? start >= stop : start <= stop;
    // Differences in unsigned arithmetic: they may not fit int64.
    const auto low = static_cast<std::uint64_t>(step > 0 ? start : stop),
               high = static_cast<std::uint64_t>(step > 0 ? stop : start);
    const std::uint64_t stride =
        step > 0 ? static_cast<std::uint64_t>(step) : 0 - static_cast<std::uint64_t>(step);
    const std::uint64_t length = empty ? 0 : (high - low - 1) / stride + 1;
    constexpr std::int64_t max_range = 100000;  // as jinja2's sandbox
    if (length > static_cast<std::uint64_t>(max_range)) {
        fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (" + std::to_string(max_range) +
             ").");
    }
    return std::make_shared<const Range>(Range{start, step, static_cast<std::int64_t>(length)});
}

Value make_dict(Heap& heap, const Arguments& arguments) {
    std::vector<std::pair<Value, Value>> items;
    if (!arguments.positional.empty()) {
        const Value& source = arguments.positional[0];
        if (source.is_undefined()) {
            // An undefined value is an empty iterable.
        } else if (const Dict* dict = source.dict()) {
            items = dict->items;
        } else {
            for (const Value& pair : to_list(heap, source)) {
                const Values parts = to_list(heap, pair);
                if (parts.size() != 2)
                    fail("dict() needs pairs, found " + std::to_string(parts.size()) + " values");
                items.emplace_back(parts[0], parts[1]);
            }
        }
    }
    for (const auto& [key, value] : arguments.named) items.emplace_back(heap.text(key), value);
    return heap.dict(std::move(items));
}

}  // namespace edgekit::tmpl
