#include "text/template/filter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "text/template/object.h"
#include "text/template/operator.h"
#include "text/template/python_text.h"

namespace edgekit::tmpl {

namespace {

using Args = std::span<const Value>;

// soft_str(): a string stays what it is, anything else goes through str().
Value soft_text(Heap& heap, const Value& value) {
    return value.text() ? value : heap.text(to_text(heap, value));
}

Value call(Heap& heap, const Value& text, std::string_view method, Values arguments = {}) {
    return call_method(heap, Method{text, std::string(method)}, {std::move(arguments), {}});
}

Value ignore_case(Heap& heap, const Value& value) {
    return value.text() ? call(heap, value, "lower") : value;
}

Value attribute_key(Heap& heap, const Value& item, const Value& path, bool case_sensitive) {
    const Value key = item_at_path(heap, item, path, None{});
    return case_sensitive ? key : ignore_case(heap, key);
}

// ---- text

template <std::string (*convert)(std::string_view)>
Value convert_text(Heap& heap, const Value& value, Args) {
    const Value text = soft_text(heap, value);
    heap.handle(text.text()->bytes.size());
    return heap.text(MarkedText(convert(text.text()->bytes), text.text()->origin()), text.text()->safe);
}

Value trim(Heap& heap, const Value& value, Args args) {
    return call(heap, soft_text(heap, value), "strip", {args[0]});
}

Value replace_text(Heap& heap, const Value& value, Args args) {
    const auto plain = [&](const Value& any) { return heap.text(to_text(heap, any)); };
    const Value count = args[2].is_none() ? Value(std::int64_t{-1}) : args[2];
    return call(heap, plain(value), "replace", {plain(args[0]), plain(args[1]), count});
}

Value indent(Heap& heap, const Value& value, Args args) {
    const Text& text = expect_text(value, "the operand of indent");
    MarkedText indention;
    if (args[0].text()) {
        indention = *args[0].text();
    } else {
        const std::int64_t width = std::max<std::int64_t>(expect_int(args[0], "the width of indent"), 0);
        heap.reserve(static_cast<std::uint64_t>(width));
        indention.bytes.assign(static_cast<std::size_t>(width), ' ');
    }
    const bool first = truth(heap, args[1]), blank = truth(heap, args[2]);
    const std::string all = text.bytes + "\n";
    const Pieces lines = split_lines(all, false);
    heap.handle(all.size());
    heap.reserve(all.size() + (lines.size() + 1) * (indention.footprint() + sizeof(MarkedText::Stretch)));
    MarkedText out;
    for (std::size_t i = 0; i < lines.size(); ++i) {
        if (i > 0) out.append("\n");
        if (i > 0 ? blank || !lines[i].empty() : first) out.append(indention);
        const auto start = static_cast<std::size_t>(lines[i].data() - all.data());
        out.append(text.slice(start, start + lines[i].size()));
    }
    return heap.text(std::move(out), text.safe);
}

Value escape(Heap& heap, const Value& value, Args) {
    if (value.text() && value.text()->safe) return value;
    const MarkedText text = to_text(heap, value);
    heap.reserve(6 * text.bytes.size());
    return heap.text(escape_html(text), true);
}

Value mark_safe(Heap& heap, const Value& value, Args) { return heap.text(to_text(heap, value), true); }
Value to_string(Heap& heap, const Value& value, Args) { return soft_text(heap, value); }

Value join(Heap& heap, const Value& value, Args args) {
    const MarkedText separator = to_text(heap, args[0]);
    const auto next = iterate(heap, value);
    MarkedText out;
    bool first = true;
    for (Value item; next(item); first = false) {
        if (!first) out.append(separator);
        out.append(to_text(heap, item_at_path(heap, item, args[1], None{})));
        heap.reserve(out.footprint());
    }
    return heap.text(std::move(out));
}

Value dump_json(Heap& heap, const Value& value, Args args) {
    json::DumpOptions options;
    options.ensure_ascii = truth(heap, args[0]);
    options.sort_keys = truth(heap, args[3]);
    if (args[1].text()) {
        options.indent = args[1].text()->bytes;
    } else if (!args[1].is_none()) {
        const std::int64_t width = std::clamp<std::int64_t>(expect_int(args[1], "tojson's indent"), 0, 1000);
        options.indent = std::string(static_cast<std::size_t>(width), ' ');
    }
    if (!args[2].is_none()) {
        const List* separators = args[2].sequence();
        if (!separators || separators->items.size() != 2) fail("tojson's separators must be two strings");
        options.item_separator = expect_text(separators->items[0], "a separator of tojson").bytes;
        options.key_separator = expect_text(separators->items[1], "a separator of tojson").bytes;
        if (options.item_separator.empty() || options.key_separator.empty())
            fail("tojson's separators must not be empty");
    }
    std::string out = json::dump(to_json(heap, value), options);
    heap.reserve(out.size());
    return heap.text(MarkedText(std::move(out), origin_of(heap, value)));
}

// ---- numbers

std::string without_underscores(std::string_view digits) {
    std::string out;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        const bool between = i > 0 && i + 1 < digits.size() && digits[i - 1] != '_' && digits[i + 1] != '_';
        if (digits[i] != '_' || !between) out += digits[i];
    }
    return out;
}

std::optional<double> parse_float(std::string_view text) {
    std::string digits = lower(without_underscores(strip(text, {}, Side::both)));
    const bool negative = digits.starts_with('-');
    const std::string magnitude = digits.substr(negative || digits.starts_with('+') ? 1 : 0);
    if (magnitude == "inf" || magnitude == "infinity") return negative ? -HUGE_VAL : HUGE_VAL;
    if (magnitude == "nan") return std::nan("");
    return json::parse_double(digits);
}

std::optional<std::int64_t> parse_int(std::string_view text, std::int64_t base) {
    if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
    text = strip(text, {}, Side::both);
    const bool negative = text.starts_with('-');
    if (negative || text.starts_with('+')) text.remove_prefix(1);
    const auto prefix = [&](std::string_view lower_case, std::int64_t of_base) {
        const bool has = text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == lower_case[0];
        if (!has || (base != 0 && base != of_base)) return false;
        base = of_base;
        text.remove_prefix(2);
        if (text.starts_with('_')) text.remove_prefix(1);
        return true;
    };
    if (!prefix("x", 16) && !prefix("o", 8)) prefix("b", 2);
    if (base == 0) base = 10;
    const std::string digits = without_underscores(text);
    if (digits.empty()) return std::nullopt;
    std::int64_t value = 0;
    for (const char c : digits) {
        const int digit = c >= '0' && c <= '9'                     ? c - '0'
                          : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (c | 0x20) - 'a' + 10
                                                                   : 99;
        if (digit >= base) return std::nullopt;
        if (__builtin_mul_overflow(value, base, &value) || __builtin_sub_overflow(value, digit, &value))
            fail("an integer does not fit 64 bits");
    }
    if (negative) return value;
    if (value == std::numeric_limits<std::int64_t>::min()) fail("an integer does not fit 64 bits");
    return -value;
}

std::int64_t truncated(double value) {
    if (std::isinf(value)) fail("cannot convert float infinity to integer");
    if (std::abs(value) >= 9.2e18) fail("a float does not fit an integer of 64 bits");
    return static_cast<std::int64_t>(value);
}

Value to_int(Heap&, const Value& value, Args args) {
    if (value.is_undefined()) fail_undefined(value);
    if (const auto integer = value.integer()) return *integer;
    if (const double* real = value.get<double>())
        return std::isnan(*real) ? args[0] : Value(truncated(*real));
    const Text* text = value.text();
    if (!text) return args[0];
    if (const auto integer = parse_int(text->bytes, expect_int(args[1], "the base of int"))) return *integer;
    const auto real = parse_float(text->bytes);
    return real && std::isfinite(*real) ? Value(truncated(*real)) : args[0];
}

Value to_float(Heap&, const Value& value, Args args) {
    if (value.is_undefined()) fail_undefined(value);
    if (const auto number = value.number()) return *number;
    const auto real = value.text() ? parse_float(value.text()->bytes) : std::nullopt;
    return real ? Value(*real) : args[0];
}

Value absolute(Heap& heap, const Value& value, Args) {
    if (value.is_undefined()) fail_undefined(value);
    if (const auto integer = value.integer()) return *integer < 0 ? negate(heap, value) : Value(*integer);
    if (const double* real = value.get<double>()) return std::abs(*real);
    fail("bad operand type for abs(): '" + std::string(type_name(value)) + "'");
}

Value sum(Heap& heap, const Value& value, Args args) {
    if (args[1].text()) fail("sum() can't sum strings");
    Value total = args[1];
    const auto next = iterate(heap, value);
    for (Value item; next(item);) total = add(heap, total, item_at_path(heap, item, args[0], None{}));
    return total;
}

// ---- sequences

Value length_of(Heap& heap, const Value& value, Args) {
    if (value.loop()) return value.loop()->length(heap);
    if (const auto n = length(value)) return *n;
    fail("object of type '" + std::string(type_name(value)) + "' has no len()");
}

Value first(Heap& heap, const Value& value, Args) {
    Value item;
    return iterate(heap, value)(item) ? item : Heap::undefined("No first item, sequence was empty.");
}

bool is_reversible(const Value& value) { return length(value).has_value(); }

Value reversed(Heap& heap, const Value& value) {
    Values items = to_list(heap, value);
    std::reverse(items.begin(), items.end());
    return heap.list(std::move(items));
}

Value last(Heap& heap, const Value& value, Args) {
    if (!is_reversible(value)) fail("'" + std::string(type_name(value)) + "' object is not reversible");
    const Values items = to_list(heap, value);
    return items.empty() ? Heap::undefined("No last item, sequence was empty.") : items.back();
}

Value reverse(Heap& heap, const Value& value, Args) {
    if (const Text* text = value.text()) {
        std::u32string code_points = decode(text->bytes);
        std::reverse(code_points.begin(), code_points.end());
        return heap.text(MarkedText(encode(code_points), text->origin()), text->safe);
    }
    const Value items = reversed(heap, value);
    return is_reversible(value) ? heap.iterator(iterate(heap, items), items) : items;
}

Value list(Heap& heap, const Value& value, Args) { return heap.list(to_list(heap, value)); }

Value sort(Heap& heap, const Value& value, Args args) {
    const bool case_sensitive = truth(heap, args[1]);
    const Values items = to_list(heap, value);
    std::vector<Value> paths;
    if (const Text* names = args[2].text()) {
        for (const std::string_view name : split(names->bytes, ",", -1))
            paths.push_back(heap.text(std::string(name)));
    } else {
        paths.push_back(args[2]);
    }
    Values keys;
    for (const Value& item : items) {
        Values key;
        for (const Value& path : paths) key.push_back(attribute_key(heap, item, path, case_sensitive));
        keys.push_back(heap.list(std::move(key)));
    }
    return heap.list(sorted(heap, items, keys, truth(heap, args[0])));
}

const Dict& expect_dict(const Value& value, std::string_view what) {
    if (value.is_undefined()) fail_undefined(value);
    if (const Dict* dict = value.dict()) return *dict;
    fail(std::string(what) + " must be a mapping, not " + std::string(type_name(value)));
}

Value sort_dict(Heap& heap, const Value& value, Args args) {
    const Dict& dict = expect_dict(value, "the operand of dictsort");
    const std::string& by = expect_text(args[1], "dictsort's by").bytes;
    if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
    Values items, keys;
    for (const auto& [key, item] : dict.items) {
        items.push_back(heap.tuple({key, item}));
        const Value& chosen = by == "key" ? key : item;
        keys.push_back(truth(heap, args[0]) ? chosen : ignore_case(heap, chosen));
    }
    return heap.list(sorted(heap, items, keys, truth(heap, args[2])));
}

Value items_of(Heap& heap, const Value& value, Args) {
    return heap.iterator(
        [&heap, value, next = std::function<bool(Value&)>()](Value& out) mutable {
            if (value.is_undefined()) return false;
            if (!next) {
                expect_dict(value, "the operand of items");
                next = iterate(heap, std::make_shared<const View>(
                                         View{View::items, *value.get<std::shared_ptr<const Dict>>()}));
            }
            return next(out);
        },
        value);
}

Value unique(Heap& heap, const Value& value, Args args) {
    struct State {
        std::function<bool(Value&)> next;
        std::unordered_multimap<std::uint64_t, Value> seen;
    };
    const auto state = std::make_shared<State>();
    return heap.iterator(
        [&heap, state, value, case_sensitive = truth(heap, args[0]), path = args[1]](Value& out) {
            if (!state->next) state->next = iterate(heap, value);
            while (state->next(out)) {
                const Value key = attribute_key(heap, out, path, case_sensitive);
                const std::uint64_t key_hash = hash(heap, key);
                const auto [begin, end] = state->seen.equal_range(key_hash);
                if (std::any_of(begin, end,
                                [&](const auto& other) { return equal(heap, other.second, key); }))
                    continue;
                state->seen.emplace(key_hash, key);
                heap.keep(64);
                return true;
            }
            return false;
        },
        value);
}

template <int wanted>
Value extreme(Heap& heap, const Value& value, Args args) {
    const bool case_sensitive = truth(heap, args[0]);
    const auto next = iterate(heap, value);
    std::optional<Value> best, best_key;
    for (Value item; next(item);) {
        const Value key = attribute_key(heap, item, args[1], case_sensitive);
        if (best && compare(heap, key, *best_key, wanted < 0 ? "<" : ">") != wanted) continue;
        best = item;
        best_key = key;
    }
    return best ? *best : Heap::undefined("No aggregated item, sequence was empty.");
}

// ---- others

Value default_value(Heap& heap, const Value& value, Args args) {
    return value.is_undefined() || (truth(heap, args[1]) && !truth(heap, value)) ? args[0] : value;
}

Value attribute_at(Heap& heap, const Value& value, Args args) {
    return item_at_path(heap, value, args[0], args[1]);
}

constexpr Filter filters[] = {
    {"abs", 0, absolute},
    {"attribute", 2, attribute_at},
    {"capitalize", 0, convert_text<capitalize>},
    {"default", 2, default_value},
    {"dictsort", 3, sort_dict},
    {"escape", 0, escape},
    {"first", 0, first},
    {"float", 1, to_float},
    {"indent", 3, indent},
    {"int", 2, to_int},
    {"items", 0, items_of},
    {"join", 2, join},
    {"last", 0, last},
    {"length", 0, length_of},
    {"list", 0, list},
    {"lower", 0, convert_text<lower>},
    {"max", 2, extreme<1>},
    {"min", 2, extreme<-1>},
    {"replace", 3, replace_text},
    {"reverse", 0, reverse},
    {"safe", 0, mark_safe},
    {"sort", 3, sort},
    {"string", 0, to_string},
    {"sum", 2, sum},
    {"title", 0, convert_text<title_words>},
    {"tojson", 4, dump_json},
    {"trim", 1, trim},
    {"unique", 2, unique},
    {"upper", 0, convert_text<upper>},
};

// ---- tests

bool is_divisible(Heap& heap, const Value& value, std::int64_t by, std::int64_t rest) {
    return equal(heap, modulo(heap, value, by), rest);
}

// Also what Python cannot iterate but an undefined value is.
bool is_sequence(Heap&, const Value& value, Args) { return length(value).has_value() && !value.view(); }

template <int order, bool or_equal>
bool test_order(Heap& heap, const Value& value, Args args) {
    const auto result = compare(heap, value, args[0], order < 0 ? "<" : ">");
    return result == order || (or_equal && result == 0);
}

constexpr Test tests[] = {
    {"boolean", 0, [](Heap&, const Value& value, Args) { return value.is_bool(); }},
    {"defined", 0, [](Heap&, const Value& value, Args) { return !value.is_undefined(); }},
    {"divisibleby", 1,
     [](Heap& heap, const Value& value, Args args) {
         return equal(heap, modulo(heap, value, args[0]), std::int64_t{0});
     }},
    {"eq", 1, [](Heap& heap, const Value& value, Args args) { return equal(heap, value, args[0]); }},
    {"even", 0, [](Heap& heap, const Value& value, Args) { return is_divisible(heap, value, 2, 0); }},
    {"false", 0, [](Heap&, const Value& value, Args) { return value.is_bool() && !*value.get<bool>(); }},
    {"float", 0, [](Heap&, const Value& value, Args) { return value.is_float(); }},
    {"ge", 1, test_order<1, true>},
    {"gt", 1, test_order<1, false>},
    {"in", 1, [](Heap& heap, const Value& value, Args args) { return contains(heap, args[0], value); }},
    {"integer", 0, [](Heap&, const Value& value, Args) { return value.get<std::int64_t>() != nullptr; }},
    {"iterable", 0, [](Heap&, const Value& value, Args) { return is_iterable(value); }},
    {"le", 1, test_order<-1, true>},
    {"lt", 1, test_order<-1, false>},
    {"mapping", 0, [](Heap&, const Value& value, Args) { return value.dict() != nullptr; }},
    {"ne", 1, [](Heap& heap, const Value& value, Args args) { return !equal(heap, value, args[0]); }},
    {"none", 0, [](Heap&, const Value& value, Args) { return value.is_none(); }},
    {"number", 0, [](Heap&, const Value& value, Args) { return value.number().has_value(); }},
    {"odd", 0, [](Heap& heap, const Value& value, Args) { return is_divisible(heap, value, 2, 1); }},
    {"sameas", 1, [](Heap&, const Value& value, Args args) { return same_object(value, args[0]); }},
    {"sequence", 0, is_sequence},
    {"string", 0, [](Heap&, const Value& value, Args) { return value.text() != nullptr; }},
    {"true", 0, [](Heap&, const Value& value, Args) { return value.is_bool() && *value.get<bool>(); }},
    {"undefined", 0, [](Heap&, const Value& value, Args) { return value.is_undefined(); }},
};

const auto* find_named(const auto& table, std::string_view name) {
    const auto found = std::find_if(std::begin(table), std::end(table),
                                    [&](const auto& entry) { return entry.name == name; });
    return found == std::end(table) ? nullptr : found;
}

}  // namespace

const Filter* find_filter(std::string_view name) { return find_named(filters, name); }
const Test* find_test(std::string_view name) { return find_named(tests, name); }

}  // namespace edgekit::tmpl
