#include "text/template_filter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "text/template_format.h"
#include "text/template_object.h"
#include "text/template_operator.h"
#include "text/template_text.h"

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
    return heap.text(convert(text.text()->bytes), text.text()->safe);
}

// Words begin behind whitespace and - ( { [ <, unlike in str.title().
std::string title_words(std::string_view text) {
    const auto begins_words = [](char32_t c) {
        return is_space(c) || std::u32string_view(U"-({[<").find(c) != std::u32string_view::npos;
    };
    const std::u32string code_points = decode(text);
    std::string out;
    for (std::size_t i = 0; i < code_points.size();) {
        std::size_t end = i + 1;
        while (end < code_points.size() && begins_words(code_points[end]) == begins_words(code_points[i]))
            ++end;
        out += upper(encode(code_points.substr(i, 1)));
        out += lower(encode(code_points.substr(i + 1, end - i - 1)));
        i = end;
    }
    return out;
}

Value trim(Heap& heap, const Value& value, Args args) {
    return call(heap, soft_text(heap, value), "strip", {args[0]});
}

Value center(Heap& heap, const Value& value, Args args) {
    return call(heap, soft_text(heap, value), "center", {args[0]});
}

Value replace_text(Heap& heap, const Value& value, Args args) {
    const auto plain = [&](const Value& any) { return heap.text(to_text(heap, any)); };
    const Value count = args[2].is_none() ? Value(std::int64_t{-1}) : args[2];
    return call(heap, plain(value), "replace", {plain(args[0]), plain(args[1]), count});
}

Value indent(Heap& heap, const Value& value, Args args) {
    const Text& text = expect_text(value, "the operand of indent");
    std::string indention;
    if (args[0].text()) {
        indention = args[0].text()->bytes;
    } else {
        const std::int64_t width = std::max<std::int64_t>(expect_int(args[0], "the width of indent"), 0);
        heap.reserve(static_cast<std::uint64_t>(width));
        indention = std::string(static_cast<std::size_t>(width), ' ');
    }
    const bool first = truth(heap, args[1]), blank = truth(heap, args[2]);
    const std::string all = text.bytes + "\n";
    const Pieces lines = split_lines(all, false);
    heap.handle(all.size());
    heap.reserve(all.size() + (lines.size() + 1) * indention.size());
    std::string out = first ? indention : "";
    for (std::size_t i = 0; i < lines.size(); ++i) {
        if (i > 0) out += '\n';
        if (i > 0 && (blank || !lines[i].empty())) out += indention;
        out += lines[i];
    }
    return heap.text(std::move(out), text.safe);
}

Value truncate(Heap& heap, const Value& value, Args args) {
    const Text& text = expect_text(value, "the operand of truncate");
    const Text& end = expect_text(args[2], "the end of truncate");
    const std::int64_t length = expect_int(args[0], "the length of truncate");
    const std::int64_t leeway = args[3].is_none() ? 5 : expect_int(args[3], "the leeway of truncate");
    const auto end_length = static_cast<std::int64_t>(end.length);
    if (length < end_length)
        fail("expected length >= " + std::to_string(end_length) + ", got " + std::to_string(length));
    if (leeway < 0) fail("expected leeway >= 0, got " + std::to_string(leeway));
    if (static_cast<std::int64_t>(text.length) - leeway <= length) return value;
    std::string_view start =
        std::string_view(text.bytes)
            .substr(0, byte_of(text.bytes, static_cast<std::size_t>(length - end_length)));
    if (!truth(heap, args[1])) start = rsplit(start, " ", 1)[0];
    return heap.text(std::string(start) + end.bytes, text.safe);
}

Value count_words(Heap& heap, const Value& value, Args) {
    const std::string text = to_text(heap, value);
    std::int64_t n = 0;
    bool in_word = false;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t start = at;
        next_code_point(text, at);
        const bool is_word = text[start] == '_' || is_alnum(std::string_view(text).substr(start, at - start));
        n += is_word && !in_word;
        in_word = is_word;
    }
    return n;
}

Value escape(Heap& heap, const Value& value, Args) {
    if (value.text() && value.text()->safe) return value;
    const std::string text = to_text(heap, value);
    heap.reserve(6 * text.size());
    return heap.text(escape_html(text), true);
}

Value force_escape(Heap& heap, const Value& value, Args args) {
    return escape(heap, heap.text(to_text(heap, value)), args);
}
Value mark_safe(Heap& heap, const Value& value, Args) { return heap.text(to_text(heap, value), true); }
Value to_string(Heap& heap, const Value& value, Args) { return soft_text(heap, value); }

Value format(Heap& heap, const Value& value, Args args) {
    const Value text = soft_text(heap, value);
    return format_percent(heap, *text.text(), args[0]);
}

Value join(Heap& heap, const Value& value, Args args) {
    const std::string separator = to_text(heap, args[0]);
    const auto next = iterate(heap, value);
    std::string out;
    bool first = true;
    for (Value item; next(item); first = false) {
        if (!first) out += separator;
        out += to_text(heap, item_at_path(heap, item, args[1], None{}));
        heap.reserve(out.size());
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
    return heap.text(std::move(out));
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
    const bool prefixed = prefix("x", 16) || prefix("o", 8) || prefix("b", 2);
    if (base == 0) base = 10;
    const std::string digits = without_underscores(text);
    if (digits.empty()) return std::nullopt;
    (void)prefixed;
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

Value round_number(Heap& heap, const Value& value, Args args) {
    if (value.is_undefined()) fail_undefined(value);
    if (!value.number()) fail("a " + std::string(type_name(value)) + " cannot be rounded");
    const std::string& method = expect_text(args[1], "the method of round").bytes;
    if (method != "common" && method != "ceil" && method != "floor")
        fail("method must be common, ceil or floor");
    if (method == "common") {
        const std::int64_t digits = args[0].is_none() ? 0 : expect_int(args[0], "the precision of round");
        if (value.integer() && digits >= 0) return *value.integer();
        if (value.integer()) fail("round() of an integer to tens is not supported");
        const double rounded = round_decimal(*value.number(), digits);
        return args[0].is_none() ? Value(truncated(rounded)) : Value(rounded);
    }
    const Value unit = power(heap, std::int64_t{10}, args[0]);
    const Value scaled = multiply(heap, value, unit);
    if (scaled.integer()) return divide(heap, scaled, unit);
    return divide(
        heap, truncated(method == "ceil" ? std::ceil(*scaled.number()) : std::floor(*scaled.number())), unit);
}

Value sum(Heap& heap, const Value& value, Args args) {
    if (args[1].text()) fail("sum() can't sum strings");
    Value total = args[1];
    const auto next = iterate(heap, value);
    for (Value item; next(item);) total = add(heap, total, item_at_path(heap, item, args[0], None{}));
    return total;
}

Value format_file_size(Heap& heap, const Value& value, Args args) {
    const Value converted = to_float(heap, value, std::array<Value, 1>{None{}});
    if (converted.is_none()) fail("filesizeformat needs a number");
    const double bytes = *converted.number();
    const bool binary = truth(heap, args[0]);
    const double base = binary ? 1024 : 1000;
    if (bytes == 1) return heap.text("1 Byte");
    if (bytes < base) return heap.text(std::to_string(truncated(bytes)) + " Bytes");
    double unit = base * base;
    std::size_t i = 0;
    for (; i < 7 && bytes >= unit; ++i) unit *= base;
    const Value number = format_percent(heap, *heap.text("%.1f").text(), base * bytes / unit);
    constexpr std::string_view decimal_units[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    constexpr std::string_view binary_units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    return heap.text(number.text()->bytes + " " + std::string(binary ? binary_units[i] : decimal_units[i]));
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
        return heap.text(encode(code_points), text->safe);
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

Value group_by(Heap& heap, const Value& value, Args args) {
    const bool case_sensitive = truth(heap, args[2]);
    const auto real_key = [&](const Value& item) { return item_at_path(heap, item, args[0], args[1]); };
    Values items = to_list(heap, value), keys;
    const auto sort_key = [&](const Value& item) {
        return case_sensitive ? real_key(item) : ignore_case(heap, real_key(item));
    };
    for (const Value& item : items) keys.push_back(sort_key(item));
    items = sorted(heap, items, keys, false);
    Values groups;
    for (std::size_t i = 0; i < items.size();) {
        Values members{items[i]};
        const Value key = sort_key(items[i]);
        for (++i; i < items.size() && equal(heap, key, sort_key(items[i])); ++i) members.push_back(items[i]);
        const Value grouper = real_key(members[0]);
        const Value pair = heap.list({grouper, heap.list(std::move(members))});
        groups.push_back(Tuple{*pair.get<std::shared_ptr<const List>>(), true});
    }
    return heap.list(std::move(groups));
}

Value batch(Heap& heap, const Value& value, Args args) {
    const std::int64_t size = expect_int(args[0], "batch's linecount");
    return heap.iterator(
        [&heap, size, fill = args[1], value, next = std::function<bool(Value&)>()](Value& out) mutable {
            if (!next) next = iterate(heap, value);
            Values items;
            Value item;
            while ((size <= 0 || static_cast<std::int64_t>(items.size()) < size) && next(item)) {
                items.push_back(item);
                heap.reserve(items.size() * sizeof(Value));
            }
            if (items.empty()) return false;
            while (!fill.is_none() && static_cast<std::int64_t>(items.size()) < size) {
                heap.step();
                items.push_back(fill);
                heap.reserve(items.size() * sizeof(Value));
            }
            out = heap.list(std::move(items));
            return true;
        },
        value);
}

Value slices(Heap& heap, const Value& value, Args args) {
    const std::int64_t n = expect_int(args[0], "the number of slices");
    if (n == 0) fail("integer division or modulo by zero");
    const Values items = to_list(heap, value);
    const auto size = static_cast<std::int64_t>(items.size());
    const std::int64_t per_slice = n > 0 ? size / n : 0, with_extra = n > 0 ? size % n : 0;
    Values out;
    std::int64_t start = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t end = start + per_slice + (i < with_extra ? 1 : 0);
        Values part(items.begin() + start, items.begin() + end);
        if (!args[1].is_none() && i >= with_extra) part.push_back(args[1]);
        out.push_back(heap.list(std::move(part)));
        start = end;
    }
    const Value parts = heap.list(std::move(out));
    return heap.iterator(iterate(heap, parts), parts);
}

// ---- others

Value default_value(Heap& heap, const Value& value, Args args) {
    return value.is_undefined() || (truth(heap, args[1]) && !truth(heap, value)) ? args[0] : value;
}

Value attribute_at(Heap& heap, const Value& value, Args args) {
    return item_at_path(heap, value, args[0], args[1]);
}

Value attribute_only(Heap& heap, const Value& value, Args args) {
    if (value.is_undefined()) fail_undefined(value);
    const std::string& name = expect_text(args[0], "the name of attr").bytes;
    if (const auto found = own_attribute(heap, value, name)) return *found;
    return Heap::undefined("'" + std::string(type_name(value)) + " object' has no attribute '" + name + "'");
}

constexpr Filter filters[] = {
    {"abs", 0, absolute},
    {"attr", 1, attribute_only},
    {"attribute", 2, attribute_at},
    {"batch", 2, batch},
    {"capitalize", 0, convert_text<capitalize>},
    {"center", 1, center},
    {"default", 2, default_value},
    {"dictsort", 3, sort_dict},
    {"escape", 0, escape},
    {"filesizeformat", 1, format_file_size},
    {"first", 0, first},
    {"float", 1, to_float},
    {"forceescape", 0, force_escape},
    {"format", 1, format},
    {"groupby", 3, group_by},
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
    {"round", 2, round_number},
    {"safe", 0, mark_safe},
    {"slice", 2, slices},
    {"sort", 3, sort},
    {"string", 0, to_string},
    {"sum", 2, sum},
    {"title", 0, convert_text<title_words>},
    {"tojson", 4, dump_json},
    {"trim", 1, trim},
    {"truncate", 4, truncate},
    {"unique", 2, unique},
    {"upper", 0, convert_text<upper>},
    {"wordcount", 0, count_words},
};

// ---- tests

bool is_divisible(Heap& heap, const Value& value, std::int64_t by, std::int64_t rest) {
    return equal(heap, modulo(heap, value, by), rest);
}

bool is_callable(Heap&, const Value& value, Args) {
    return value.macro() || value.method() || value.get<Function>() || value.joiner() || value.loop() ||
           value.is_undefined();
}

// Also what Python cannot iterate but an undefined value is.
bool is_sequence(Heap&, const Value& value, Args) { return length(value).has_value() && !value.view(); }

template <bool (*test)(std::string_view)>
bool test_text(Heap& heap, const Value& value, Args) {
    return test(to_text(heap, value));
}

template <int order, bool or_equal>
bool test_order(Heap& heap, const Value& value, Args args) {
    const auto result = compare(heap, value, args[0], order < 0 ? "<" : ">");
    return result == order || (or_equal && result == 0);
}

constexpr Test tests[] = {
    {"boolean", 0, [](Heap&, const Value& value, Args) { return value.is_bool(); }},
    {"callable", 0, is_callable},
    {"defined", 0, [](Heap&, const Value& value, Args) { return !value.is_undefined(); }},
    {"divisibleby", 1,
     [](Heap& heap, const Value& value, Args args) {
         return equal(heap, modulo(heap, value, args[0]), std::int64_t{0});
     }},
    {"eq", 1, [](Heap& heap, const Value& value, Args args) { return equal(heap, value, args[0]); }},
    {"escaped", 0, [](Heap&, const Value& value, Args) { return value.text() && value.text()->safe; }},
    {"even", 0, [](Heap& heap, const Value& value, Args) { return is_divisible(heap, value, 2, 0); }},
    {"false", 0, [](Heap&, const Value& value, Args) { return value.is_bool() && !*value.get<bool>(); }},
    {"float", 0, [](Heap&, const Value& value, Args) { return value.is_float(); }},
    {"ge", 1, test_order<1, true>},
    {"gt", 1, test_order<1, false>},
    {"in", 1, [](Heap& heap, const Value& value, Args args) { return contains(heap, args[0], value); }},
    {"integer", 0, [](Heap&, const Value& value, Args) { return value.get<std::int64_t>() != nullptr; }},
    {"iterable", 0, [](Heap&, const Value& value, Args) { return is_iterable(value); }},
    {"le", 1, test_order<-1, true>},
    {"lower", 0, test_text<is_lower>},
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
    {"upper", 0, test_text<is_upper>},
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
