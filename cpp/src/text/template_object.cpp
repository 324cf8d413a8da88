#include "text/template_object.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "text/template_format.h"
#include "text/template_text.h"

namespace edgekit::tmpl {

namespace {

std::string quoted(std::string_view name) { return "'" + std::string(name) + "'"; }

bool is_one_of(std::string_view name, auto&& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Value no_attribute(const Value& object, std::string_view name) {
    return Heap::undefined(quoted(std::string(type_name(object)) + " object") + " has no attribute " +
                           quoted(name));
}

Value unsafe_attribute(const Value& object, std::string_view name) {
    return Heap::undefined("access to attribute " + quoted(name) + " of " + quoted(type_name(object)) +
                           " object is unsafe.");
}

// ---- methods

struct Call {
    Heap& heap;
    const Value& self;
    std::string_view name;
    const Arguments& arguments;

    const Text& text() const { return *self.text(); }
    std::string_view bytes() const { return self.text()->bytes; }
    // A string of the same kind as the one whose method this is.
    Value make(std::string_view result) const { return heap.text(std::string(result), text().safe); }

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
        for (const std::string_view part : parts) items.push_back(make(part));
        return heap.list(std::move(items));
    }
};

using MethodFunction = Value (*)(const Call&);
struct MethodEntry {
    std::string_view name;
    MethodFunction function;  // null: Python has it, the interpreter does not
};

template <std::string (*convert)(std::string_view)>
Value converted(const Call& call) {
    call.expect(0, 0);
    call.heap.handle(call.bytes().size());
    return call.make(convert(call.bytes()));
}

template <bool (*test)(std::string_view)>
Value tested(const Call& call) {
    call.expect(0, 0);
    call.heap.handle(call.bytes().size());
    return test(call.bytes());
}

template <Side side>
Value stripped(const Call& call) {
    call.expect(0, 1);
    call.heap.handle(call.bytes().size());
    return call.make(strip(call.bytes(), call.optional_string(0), side));
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

template <bool from_right, bool must_exist>
Value find_part(const Call& call) {
    call.expect(1, 3);
    call.heap.handle(call.bytes().size());
    const std::string_view part = call.string(0);
    const auto window = call.window(1);
    std::size_t found = std::string_view::npos;
    if (window) found = from_right ? window->first.rfind(part) : window->first.find(part);
    if (found == std::string_view::npos) {
        if (must_exist) fail("substring not found");
        return std::int64_t{-1};
    }
    return window->second + static_cast<std::int64_t>(count_code_points(window->first.substr(0, found)));
}

enum class Align { left, right, center };

template <Align align>
Value padded(const Call& call) {
    call.expect(1, 2);
    const Text& text = call.text();
    const std::string fill = call.arguments.positional.size() > 1 ? std::string(call.string(1)) : " ";
    if (count_code_points(fill) != 1) fail("The fill character must be exactly one character long");
    const std::int64_t width = call.integer(0, 0), n = static_cast<std::int64_t>(text.length);
    if (width <= n) return call.make(text.bytes);
    const std::int64_t pad = width - n;
    call.heap.reserve(static_cast<std::uint64_t>(pad) * 4);
    // As CPython: the odd one goes left when the width is odd.
    const std::int64_t left = align == Align::left    ? 0
                              : align == Align::right ? pad
                                                      : pad / 2 + (pad & width & 1);
    std::string out;
    for (std::int64_t i = 0; i < left; ++i) out += fill;
    out += text.bytes;
    for (std::int64_t i = left; i < pad; ++i) out += fill;
    return call.make(out);
}

template <bool from_right>
Value partitioned(const Call& call) {
    call.expect(1, 1);
    const std::string_view bytes = call.bytes(), separator = call.string(0);
    if (separator.empty()) fail("empty separator");
    const std::size_t at = from_right ? bytes.rfind(separator) : bytes.find(separator);
    if (at == bytes.npos && from_right)
        return call.heap.tuple({call.make({}), call.make({}), call.make(bytes)});
    if (at == bytes.npos) return call.heap.tuple({call.make(bytes), call.make({}), call.make({})});
    return call.heap.tuple({call.make(bytes.substr(0, at)), call.make(separator),
                            call.make(bytes.substr(at + separator.size()))});
}

Value replaced(const Call& call) {
    call.expect(2, 3);
    const std::string_view from = call.string(0);
    std::string to(call.string(1));
    if (call.text().safe && !call.arguments.positional[1].text()->safe) to = escape_html(to);
    call.heap.handle(call.bytes().size());
    const std::uint64_t n = count(call.bytes(), from);
    call.heap.reserve(call.bytes().size() + n * to.size());
    return call.make(replace(call.bytes(), from, to, call.integer(2, -1)));
}

Value joined(const Call& call) {
    call.expect(1, 1);
    const auto next = iterate(call.heap, call.arguments.positional.at(0));
    std::string out;
    bool first = true;
    for (Value item; next(item); first = false) {
        if (!first) out += call.bytes();
        const Text& text = expect_text(item, "an item of join()");
        out += call.text().safe && !text.safe ? escape_html(text.bytes) : text.bytes;
        call.heap.reserve(out.size());
    }
    return call.make(out);
}

Value tabs_expanded(const Call& call) {
    call.expect(0, 1, {"tabsize"});
    const std::int64_t tab_size = call.integer(0, 8, "tabsize");
    std::string out;
    std::int64_t column = 0;
    for (const char c : call.bytes()) {
        if (c == '\t') {
            const std::int64_t n = tab_size > 0 ? tab_size - column % tab_size : 0;
            call.heap.reserve(out.size() + static_cast<std::uint64_t>(n));
            out.append(static_cast<std::size_t>(n), ' ');
            column += n;
        } else {
            out += c;
            if (c == '\n' || c == '\r')
                column = 0;
            else if ((static_cast<unsigned char>(c) & 0xc0) != 0x80)
                ++column;
        }
    }
    return call.make(out);
}

Value zero_filled(const Call& call) {
    call.expect(1, 1);
    const std::int64_t width = call.integer(0, 0), n = static_cast<std::int64_t>(call.text().length);
    if (width <= n) return call.make(call.bytes());
    call.heap.reserve(static_cast<std::uint64_t>(width));
    std::string out(call.bytes());
    const bool has_sign = !out.empty() && (out[0] == '+' || out[0] == '-');
    out.insert(has_sign ? 1 : 0, static_cast<std::size_t>(width - n), '0');
    return call.make(out);
}

Value format_text(const Call& call) { return format_braces(call.heap, call.text(), call.arguments); }

Value count_part(const Call& call) {
    call.expect(1, 3);
    call.heap.handle(call.bytes().size());
    const auto window = call.window(1);
    return static_cast<std::int64_t>(window ? count(window->first, call.string(0)) : 0);
}

Value without_prefix(const Call& call) {
    call.expect(1, 1);
    const std::string_view prefix = call.string(0), bytes = call.bytes();
    return call.make(bytes.starts_with(prefix) ? bytes.substr(prefix.size()) : bytes);
}

Value without_suffix(const Call& call) {
    call.expect(1, 1);
    const std::string_view suffix = call.string(0), bytes = call.bytes();
    return call.make(bytes.ends_with(suffix) ? bytes.substr(0, bytes.size() - suffix.size()) : bytes);
}

Value split_to_lines(const Call& call) {
    call.expect(0, 1, {"keepends"});
    const Value* keep = call.argument(0, "keepends");
    return call.pieces(split_lines(call.bytes(), keep && truth(call.heap, *keep)));
}

Value is_ascii_text(const Call& call) { return call.text().length == call.bytes().size(); }

constexpr MethodEntry text_methods[] = {
    {"capitalize", converted<capitalize>},
    {"casefold", converted<lower>},
    {"center", padded<Align::center>},
    {"count", count_part},
    {"encode", nullptr},
    {"endswith", starts_or_ends<true>},
    {"expandtabs", tabs_expanded},
    {"find", find_part<false, false>},
    {"format", format_text},
    {"format_map", nullptr},
    {"index", find_part<false, true>},
    {"isalnum", tested<is_alnum>},
    {"isalpha", tested<is_alpha>},
    {"isascii", is_ascii_text},
    {"isdecimal", tested<is_decimal>},
    {"isdigit", tested<is_digit>},
    {"isidentifier", nullptr},
    {"islower", tested<is_lower>},
    {"isnumeric", tested<is_numeric>},
    {"isprintable", nullptr},
    {"isspace", tested<is_space_only>},
    {"istitle", tested<is_title>},
    {"isupper", tested<is_upper>},
    {"join", joined},
    {"ljust", padded<Align::left>},
    {"lower", converted<lower>},
    {"lstrip", stripped<Side::left>},
    {"maketrans", nullptr},
    {"partition", partitioned<false>},
    {"removeprefix", without_prefix},
    {"removesuffix", without_suffix},
    {"replace", replaced},
    {"rfind", find_part<true, false>},
    {"rindex", find_part<true, true>},
    {"rjust", padded<Align::right>},
    {"rpartition", partitioned<true>},
    {"rsplit", split_by<rsplit>},
    {"rstrip", stripped<Side::right>},
    {"split", split_by<split>},
    {"splitlines", split_to_lines},
    {"startswith", starts_or_ends<false>},
    {"strip", stripped<Side::both>},
    {"swapcase", converted<swapcase>},
    {"title", converted<title>},
    {"translate", nullptr},
    {"upper", converted<upper>},
    {"zfill", zero_filled},
};

Value itself(const Call& call) {
    call.expect(0, 0);
    return call.self;
}

Value count_item(const Call& call) {
    call.expect(1, 1);
    std::int64_t n = 0;
    for (const Value& item : call.self.sequence()->items)
        n += equal(call.heap, item, call.arguments.positional[0]);
    return n;
}

Value index_of_item(const Call& call) {
    call.expect(1, 1);
    const Values& items = call.self.sequence()->items;
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (equal(call.heap, items[i], call.arguments.positional[0])) return static_cast<std::int64_t>(i);
    }
    fail("the item is not in the list");
}

constexpr MethodEntry list_methods[] = {{"copy", itself}, {"count", count_item}, {"index", index_of_item}};
constexpr MethodEntry tuple_methods[] = {{"count", count_item}, {"index", index_of_item}};
constexpr std::string_view list_mutators[] = {"append", "clear",  "extend",  "insert",
                                              "pop",    "remove", "reverse", "sort"};

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
    {"copy", itself},
    {"fromkeys", nullptr},
    {"get", get_key},
    {"items", view_of<View::items>},
    {"keys", view_of<View::keys>},
    {"values", view_of<View::values>},
};
constexpr std::string_view dict_mutators[] = {"clear", "pop", "popitem", "setdefault", "update"};

Value is_whole(const Call& call) {
    call.expect(0, 0);
    return std::floor(*call.self.number()) == *call.self.number();
}

constexpr MethodEntry float_methods[] = {
    {"as_integer_ratio", nullptr},
    {"conjugate", itself},
    {"fromhex", nullptr},
    {"hex", nullptr},
    {"imag", nullptr},
    {"is_integer", is_whole},
    {"real", nullptr},
};
constexpr MethodEntry int_methods[] = {
    {"as_integer_ratio", nullptr},
    {"bit_count", nullptr},
    {"bit_length", nullptr},
    {"conjugate", itself},
    {"denominator", nullptr},
    {"from_bytes", nullptr},
    {"imag", nullptr},
    {"numerator", nullptr},
    {"real", nullptr},
    {"to_bytes", nullptr},
};

Value loop_cycle(const Call& call) {
    const Values& items = call.arguments.positional;
    if (items.empty()) fail("no items for cycling given");
    return items[static_cast<std::size_t>(call.self.loop()->index0) % items.size()];
}

Value loop_changed(const Call& call) {
    Loop& loop = *call.self.loop();
    const Values& values = call.arguments.positional;
    const bool same = loop.last_changed && loop.last_changed->size() == values.size() &&
                      std::equal(values.begin(), values.end(), loop.last_changed->begin(),
                                 [&](const Value& a, const Value& b) { return equal(call.heap, a, b); });
    if (!same) loop.last_changed = values;
    return !same;
}

constexpr MethodEntry loop_methods[] = {{"changed", loop_changed}, {"cycle", loop_cycle}};

Value cycler_next(const Call& call) {
    Cycler& cycler = *call.self.cycler();
    const Values& items = cycler.items.sequence()->items;
    const Value item = items[cycler.at];
    cycler.at = (cycler.at + 1) % items.size();
    return item;
}

Value cycler_reset(const Call& call) {
    call.self.cycler()->at = 0;
    return None{};
}

constexpr MethodEntry cycler_methods[] = {{"next", cycler_next}, {"reset", cycler_reset}};

std::span<const MethodEntry> methods_of(const Value& value) {
    if (value.text()) return text_methods;
    if (value.is_tuple()) return tuple_methods;
    if (value.sequence()) return list_methods;
    if (value.dict()) return dict_methods;
    if (value.is_float()) return float_methods;
    if (value.integer()) return int_methods;
    if (value.loop()) return loop_methods;
    if (value.cycler()) return cycler_methods;
    return {};
}

std::span<const std::string_view> mutators_of(const Value& value) {
    if (value.dict()) return dict_mutators;
    if (value.sequence() && !value.is_tuple()) return list_mutators;
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
    if (name == "depth") return std::int64_t{loop.depth0} + 1;
    if (name == "depth0") return std::int64_t{loop.depth0};
    if (name == "previtem")
        return loop.index0 > 0 ? *loop.before : Heap::undefined("there is no previous item");
    if (name == "nextitem") return loop.peek() ? *loop.peek() : Heap::undefined("there is no next item");
    return std::nullopt;
}

}  // namespace

std::optional<Value> own_attribute(Heap& heap, const Value& object, std::string_view name) {
    for (const MethodEntry& method : methods_of(object)) {
        if (method.name != name) continue;
        if (!method.function)
            fail("the attribute " + quoted(name) + " of a " + std::string(type_name(object)) +
                 " is not supported");
        return heap.method(object, name);
    }
    if (is_one_of(name, mutators_of(object))) return unsafe_attribute(object, name);
    if (name.starts_with("__")) return unsafe_attribute(object, name);
    if (Namespace* name_space = object.name_space()) {
        const Value* found = name_space->find(name);
        return found ? std::optional(*found) : std::nullopt;
    }
    if (Loop* loop = object.loop()) return loop_attribute(heap, *loop, name);
    if (const Tuple* tuple = object.get<Tuple>(); tuple && tuple->is_group) {
        if (name == "grouper") return tuple->list->items[0];
        if (name == "list") return tuple->list->items[1];
    }
    if (Cycler* cycler = object.cycler(); cycler && name == "current")
        return cycler->items.sequence()->items[cycler->at];
    if (object.get<Function>() && *object.get<Function>() == Function::dict && name == "fromkeys")
        return Function::dict_fromkeys;
    if (object.macro() || object.range() || object.view()) {
        constexpr std::string_view names[] = {
            "name", "arguments", "catch_kwargs", "catch_varargs", "caller",  "explicit_caller", "start",
            "stop", "step",      "index",        "count",         "mapping", "isdisjoint"};
        if (is_one_of(name, names))
            fail("the attribute " + quoted(name) + " of a " + std::string(type_name(object)) +
                 " is not supported");
    }
    return std::nullopt;
}

namespace {

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
    heap.handle(text.length == text.bytes.size() ? 0 : text.bytes.size());
    const bool ascii = text.length == text.bytes.size();
    const std::size_t start =
        ascii ? static_cast<std::size_t>(at) : byte_of(text.bytes, static_cast<std::size_t>(at));
    std::size_t end = start;
    next_code_point(text.bytes, end);
    return heap.text(text.bytes.substr(start, end - start), text.safe);
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
    return Heap::undefined(std::string(type_name(object)) + " object has no element " +
                           (key.number() ? repr(heap, key) : std::string(type_name(key))));
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
        const bool is_number = is_digit(part) && part.size() < 18 && count_code_points(part) == part.size();
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
        return heap.text(text->bytes.substr(begin, end - begin), text->safe);
    }
    heap.reserve(4 * text->length);
    const std::u32string code_points = decode(text->bytes);
    std::u32string chosen;
    for (std::int64_t i = first; inside(i); i += advance) chosen += code_points[static_cast<std::size_t>(i)];
    return heap.text(encode(chosen), text->safe);
}

Value call_method(Heap& heap, const Method& method, const Arguments& arguments) {
    const auto methods = methods_of(method.self);
    const auto found = std::find_if(methods.begin(), methods.end(),
                                    [&](const MethodEntry& entry) { return entry.name == method.name; });
    if (found == methods.end() || !found->function)
        fail("the method " + quoted(method.name) + " is not supported");
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
