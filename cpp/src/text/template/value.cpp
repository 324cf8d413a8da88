#include "text/template/value.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "text/template/python_text.h"

namespace edgekit::tmpl {

void fail(const std::string& message) { throw Error(Status::template_error, message); }

void fail_undefined(const Value& value) {
    const Undefined* undefined = value.get<Undefined>();
    fail(undefined && undefined->message ? *undefined->message : "an undefined value is used");
}

// ---- making values

template <class T>
struct Heap::Owned : T {
    Owned(T value, Heap& heap, std::size_t bytes) : T(std::move(value)), heap(heap), bytes(bytes) {
        heap.keep(bytes);
    }
    ~Owned() { heap.live_ -= bytes; }
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;

    Heap& heap;
    std::size_t bytes;
};

template <class T>
std::shared_ptr<const T> Heap::own(T value, std::size_t bytes) {
    return std::make_shared<const Owned<T>>(std::move(value), *this, bytes + sizeof(Owned<T>));
}

namespace {

int nesting(const Value& value) {
    if (const List* list = value.sequence()) return list->depth;
    if (const Dict* dict = value.dict()) return dict->depth;
    if (const View* view = value.view()) return view->dict->depth;
    if (const Iterator* iterator = value.iterator()) return iterator->depth;
    if (const Method* method = value.method()) return nesting(method->self) + 1;
    if (const Loop* loop = value.loop()) return nesting(loop->iterable) + 1;
    return 0;
}

}  // namespace

void Heap::check_nesting(const Value& value) const {
    if (nesting(value) >= max_depth)
        fail("values are nested deeper than " + std::to_string(max_depth) + " levels");
}

int Heap::depth_of(const Values& items) const {
    int depth = 0;
    for (const Value& item : items) {
        check_nesting(item);
        depth = std::max(depth, nesting(item));
    }
    return depth + 1;
}

Value Heap::text(MarkedText text, bool safe) {
    handle(text.bytes.size());
    const std::size_t size = text.footprint();
    const std::size_t length = count_code_points(text.bytes);
    return own(Text{std::move(text), length, safe}, size);
}

Value Heap::list(Values items) {
    step(items.size());
    const int depth = depth_of(items);
    const std::size_t size = items.size() * sizeof(Value);
    return own(List{std::move(items), depth}, size);
}

Value Heap::tuple(Values items) { return Tuple{*list(std::move(items)).get<std::shared_ptr<const List>>()}; }

Value Heap::dict(std::vector<std::pair<Value, Value>> items) {
    step(items.size());
    Dict dict;
    dict.depth = 0;
    for (const auto& [key, value] : items) dict.depth = std::max(dict.depth, depth_of({key, value}));
    dict.depth = std::max(dict.depth, 1);
    const auto index_items = [&] {
        dict.index.clear();
        for (std::size_t i = 0; i < items.size(); ++i) {
            dict.index.emplace_back(hash(*this, items[i].first), static_cast<std::uint32_t>(i));
        }
        std::sort(dict.index.begin(), dict.index.end());
    };
    index_items();
    std::vector<bool> duplicate(items.size());
    bool any_duplicate = false;
    for (std::size_t i = 0; i < dict.index.size(); ++i) {
        const std::uint32_t first = dict.index[i].second;
        if (duplicate[first]) continue;
        for (std::size_t j = i + 1; j < dict.index.size() && dict.index[j].first == dict.index[i].first;
             ++j) {
            const std::uint32_t later = dict.index[j].second;
            if (duplicate[later] || !equal(*this, items[first].first, items[later].first)) continue;
            items[first].second = items[later].second;
            duplicate[later] = any_duplicate = true;
        }
    }
    if (any_duplicate) {
        std::vector<std::pair<Value, Value>> unique;
        for (std::size_t i = 0; i < items.size(); ++i) {
            if (!duplicate[i]) unique.push_back(std::move(items[i]));
        }
        items = std::move(unique);
        index_items();
    }
    const std::size_t size = items.size() * (2 * sizeof(Value) + sizeof(dict.index[0]));
    dict.items = std::move(items);
    return own(std::move(dict), size);
}

Value Heap::iterator(std::function<bool(Value&)> next, const Value& source) {
    step();
    const int depth = depth_of({source});
    return std::const_pointer_cast<Iterator>(own(Iterator{std::move(next), depth}, 64));
}

Value Heap::method(Value self, std::string_view name) {
    check_nesting(self);
    return own(Method{std::move(self), std::string(name)}, name.size());
}

Value Heap::undefined(std::string message) {
    return Undefined{std::make_shared<const std::string>(std::move(message))};
}

Value Heap::from_json(const json::Value& value, Origin origin) {
    switch (value.kind()) {
        case json::Kind::null:
            return None{};
        case json::Kind::boolean:
            return value.as_bool();
        case json::Kind::integer:
            return value.as_int();
        case json::Kind::real:
            return value.as_double();
        case json::Kind::string:
            return text(MarkedText(value.as_string(), origin));
        case json::Kind::array: {
            Values items;
            for (const json::Value& item : value.as_array()) items.push_back(from_json(item, origin));
            return list(std::move(items));
        }
        case json::Kind::object:
            break;
    }
    std::vector<std::pair<Value, Value>> items;
    for (const json::Member& member : value.as_object())
        items.emplace_back(text(MarkedText(member.key, origin)), from_json(member.value, origin));
    return dict(std::move(items));
}

// ---- reading values

namespace {

const Value* find_hashed(const Dict& dict, std::uint64_t key_hash, const auto& is_key) {
    auto place =
        std::lower_bound(dict.index.begin(), dict.index.end(), std::pair{key_hash, std::uint32_t{0}});
    for (; place != dict.index.end() && place->first == key_hash; ++place) {
        const auto& [key, value] = dict.items[place->second];
        if (is_key(key)) return &value;
    }
    return nullptr;
}

std::uint64_t hash_bytes(std::string_view bytes) { return std::hash<std::string_view>()(bytes); }

}  // namespace

const Value* Dict::find(Heap& heap, const Value& key) const {
    return find_hashed(*this, hash(heap, key), [&](const Value& other) { return equal(heap, key, other); });
}

const Value* Dict::find(std::string_view key) const {
    return find_hashed(*this, hash_bytes(key),
                       [&](const Value& other) { return other.text() && other.text()->bytes == key; });
}

Value* Namespace::find(std::string_view name) {
    for (auto& [key, value] : attributes) {
        if (key == name) return &value;
    }
    return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
    if (Value* found = find(name))
        *found = std::move(value);
    else
        attributes.emplace_back(std::string(name), std::move(value));
}

bool Loop::advance() {
    Value item;
    if (after) {
        item = std::move(*after);
        after.reset();
    } else if (!next(item)) {
        return false;
    }
    ++index0;
    before = std::move(current);
    current = std::move(item);
    return true;
}

const std::optional<Value>& Loop::peek() {
    Value item;
    if (!after && next(item)) after = std::move(item);
    return after;
}

std::int64_t Loop::length(Heap& heap) {
    if (known_length) return *known_length;
    known_length = tmpl::length(iterable);
    if (!known_length) {
        Values rest;
        for (Value item; next(item);) rest.push_back(std::move(item));
        known_length = static_cast<std::int64_t>(rest.size()) + index0 + 1 + (after ? 1 : 0);
        next = iterate(heap, heap.list(std::move(rest)));
    }
    return *known_length;
}

std::string_view type_name(const Value& value) {
    struct Name {
        std::string_view operator()(const Undefined&) const { return "Undefined"; }
        std::string_view operator()(const None&) const { return "NoneType"; }
        std::string_view operator()(bool) const { return "bool"; }
        std::string_view operator()(std::int64_t) const { return "int"; }
        std::string_view operator()(double) const { return "float"; }
        std::string_view operator()(const std::shared_ptr<const Text>& text) const {
            return text->safe ? "Markup" : "str";
        }
        std::string_view operator()(const std::shared_ptr<const List>&) const { return "list"; }
        std::string_view operator()(const Tuple&) const { return "tuple"; }
        std::string_view operator()(const std::shared_ptr<const Dict>&) const { return "dict"; }
        std::string_view operator()(const std::shared_ptr<const Range>&) const { return "range"; }
        std::string_view operator()(const std::shared_ptr<const View>& view) const {
            constexpr std::string_view names[] = {"dict_items", "dict_keys", "dict_values"};
            return names[view->kind];
        }
        std::string_view operator()(const std::shared_ptr<Iterator>&) const { return "generator"; }
        std::string_view operator()(Namespace*) const { return "Namespace"; }
        std::string_view operator()(const std::shared_ptr<const Macro>&) const { return "Macro"; }
        std::string_view operator()(const std::shared_ptr<const Method>&) const {
            return "builtin_function_or_method";
        }
        std::string_view operator()(Function) const { return "function"; }
        std::string_view operator()(const std::shared_ptr<Loop>&) const { return "LoopContext"; }
    };
    return value.visit(Name{});
}

const Text& expect_text(const Value& value, std::string_view what) {
    if (value.is_undefined()) fail_undefined(value);
    if (const Text* text = value.text()) return *text;
    fail(std::string(what) + " must be a string, not " + std::string(type_name(value)));
}

MarkedText added(const Text& text, bool safe) {
    if (safe && !text.safe) return escape_html(text);
    return text;
}

std::int64_t expect_int(const Value& value, std::string_view what) {
    if (value.is_undefined()) fail_undefined(value);
    if (const auto integer = value.integer()) return *integer;
    fail(std::string(what) + " must be an integer, not " + std::string(type_name(value)));
}

bool truth(Heap& heap, const Value& value) {
    heap.step();
    if (value.is_undefined() || value.is_none()) return false;
    if (const auto number = value.number()) return *number != 0;
    if (const auto size = length(value)) return *size != 0;
    return true;
}

std::optional<std::int64_t> length(const Value& value) {
    const auto signed_size = [](std::size_t size) { return static_cast<std::int64_t>(size); };
    if (value.is_undefined()) return 0;
    if (const Text* text = value.text()) return signed_size(text->length);
    if (const List* list = value.sequence()) return signed_size(list->items.size());
    if (const Dict* dict = value.dict()) return signed_size(dict->items.size());
    if (const View* view = value.view()) return signed_size(view->dict->items.size());
    if (const Range* range = value.range()) return range->length;
    return std::nullopt;
}

// ---- str() and repr()

namespace {

[[noreturn]] void fail_unprintable(const Value& value) {
    fail("a " + std::string(type_name(value)) + " is used as text; Python would print an address in memory");
}

void append_repr(Heap& heap, MarkedText& out, const Value& value);

void append_all(Heap& heap, MarkedText& out, const auto& items, const auto& append) {
    bool first = true;
    for (const auto& item : items) {
        if (!std::exchange(first, false)) out.append(", ");
        append(item);
        heap.step();
        heap.reserve(out.footprint());
    }
}

void append_repr(Heap& heap, MarkedText& out, const Value& value) {
    const auto append_value = [&](const Value& item) { append_repr(heap, out, item); };
    heap.step();
    if (value.is_undefined()) {
        out.append("Undefined");
    } else if (value.is_none()) {
        out.append("None");
    } else if (const bool* flag = value.get<bool>()) {
        out.append(*flag ? "True" : "False");
    } else if (const auto integer = value.integer()) {
        out.append(std::to_string(*integer));
    } else if (const double* real = value.get<double>()) {
        out.append(json::format_double(*real));
    } else if (const Text* text = value.text()) {
        heap.handle(text->bytes.size());
        heap.reserve(text->bytes.size() * 4);
        const std::string quoted = quote_python(text->bytes);
        out.append(text->safe ? "Markup(" + quoted + ")" : quoted, text->origin());
    } else if (const List* list = value.sequence()) {
        out.append(value.is_tuple() ? "(" : "[");
        append_all(heap, out, list->items, append_value);
        out.append(!value.is_tuple() ? "]" : list->items.size() == 1 ? ",)" : ")");
    } else if (const Dict* dict = value.dict()) {
        out.append("{");
        append_all(heap, out, dict->items, [&](const auto& item) {
            append_value(item.first);
            out.append(": ");
            append_value(item.second);
        });
        out.append("}");
    } else if (value.view()) {
        out.append(std::string(type_name(value)) + "(");
        append_value(heap.list(to_list(heap, value)));
        out.append(")");
    } else if (const Range* range = value.range()) {
        const std::int64_t stop = range->start + range->step * range->length;
        out.append("range(" + std::to_string(range->start) + ", " + std::to_string(stop) +
                   (range->step == 1 ? ")" : ", " + std::to_string(range->step) + ")"));
    } else {
        fail_unprintable(value);
    }
}

}  // namespace

MarkedText to_text(Heap& heap, const Value& value) {
    if (const Text* text = value.text()) {
        heap.handle(text->bytes.size());
        heap.reserve(text->bytes.size());
        return *text;
    }
    MarkedText out;
    if (!value.is_undefined()) append_repr(heap, out, value);
    return out;
}

// ---- comparing

namespace {

// Exact, as Python compares an int with a float.
std::optional<int> compare_numbers(const Value& a, const Value& b) {
    const auto order = [](auto x, auto y) { return x < y ? -1 : x > y ? 1 : 0; };
    const auto x = a.integer(), y = b.integer();
    if (x && y) return order(*x, *y);
    const double u = *a.number(), v = *b.number();
    if (std::isnan(u) || std::isnan(v)) return std::nullopt;
    if (!x && !y) return order(u, v);
    if (x) {
        const auto reversed = compare_numbers(b, a);
        return reversed ? std::optional(-*reversed) : std::nullopt;
    }
    // u is the float, y the integer.
    constexpr double two_63 = 9223372036854775808.0;
    if (u >= two_63) return 1;
    if (u < -two_63) return -1;
    const auto whole = static_cast<std::int64_t>(std::floor(u));
    if (whole != *y) return order(whole, *y);
    return u > std::floor(u) ? 1 : 0;
}

bool equal_dicts(Heap& heap, const Dict& a, const Dict& b) {
    if (a.items.size() != b.items.size()) return false;
    return std::all_of(a.items.begin(), a.items.end(), [&](const auto& item) {
        const Value* other = b.find(heap, item.first);
        return other && equal(heap, item.second, *other);
    });
}

bool equal_ranges(const Range& a, const Range& b) {
    if (a.length != b.length || a.length == 0) return a.length == b.length;
    return a.start == b.start && (a.length == 1 || a.step == b.step);
}

}  // namespace

bool equal(Heap& heap, const Value& a, const Value& b) {
    heap.step();
    if (a.number() && b.number()) return compare_numbers(a, b) == 0;
    if (a.text() && b.text()) {
        heap.handle(std::min(a.text()->bytes.size(), b.text()->bytes.size()));
        return a.text()->bytes == b.text()->bytes;
    }
    if (a.sequence() && b.sequence()) {
        const Values &x = a.sequence()->items, &y = b.sequence()->items;
        return a.is_tuple() == b.is_tuple() &&
               std::equal(x.begin(), x.end(), y.begin(), y.end(),
                          [&](const Value& u, const Value& v) { return equal(heap, u, v); });
    }
    if (a.dict() && b.dict()) return equal_dicts(heap, *a.dict(), *b.dict());
    if (a.range() && b.range()) return equal_ranges(*a.range(), *b.range());
    if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
    if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
    if (a.view() && b.view() && a.view()->kind != View::values && b.view()->kind == a.view()->kind) {
        const View &x = *a.view(), &y = *b.view();
        if (x.kind == View::items) return equal_dicts(heap, *x.dict, *y.dict);
        return x.dict->items.size() == y.dict->items.size() &&
               std::all_of(x.dict->items.begin(), x.dict->items.end(),
                           [&](const auto& item) { return y.dict->find(heap, item.first); });
    }
    return same_object(a, b);
}

bool same_object(const Value& a, const Value& b) {
    if (a.is_none() && b.is_none()) return true;
    if (a.is_bool() || b.is_bool()) return a.is_bool() && b.is_bool() && *a.get<bool>() == *b.get<bool>();
    if (a.integer() && b.integer()) return *a.integer() == *b.integer();
    if (a.text() && b.text()) return a.text() == b.text();
    if (a.sequence() && b.sequence()) return a.sequence() == b.sequence();
    if (a.dict() && b.dict()) return a.dict() == b.dict();
    if (a.iterator() && b.iterator()) return a.iterator() == b.iterator();
    if (a.name_space() && b.name_space()) return a.name_space() == b.name_space();
    if (a.macro() && b.macro()) return a.macro() == b.macro();
    if (a.loop() && b.loop()) return a.loop() == b.loop();
    if (a.get<Function>() && b.get<Function>()) return *a.get<Function>() == *b.get<Function>();
    return false;
}

std::optional<int> compare(Heap& heap, const Value& a, const Value& b, std::string_view op) {
    heap.step();
    if (a.is_undefined()) fail_undefined(a);
    if (b.is_undefined()) fail_undefined(b);
    if (a.number() && b.number()) return compare_numbers(a, b);
    if (a.text() && b.text()) {
        // The order of UTF-8 bytes is the order of code points.
        heap.handle(std::min(a.text()->bytes.size(), b.text()->bytes.size()));
        const int order = a.text()->bytes.compare(b.text()->bytes);
        return order < 0 ? -1 : order > 0 ? 1 : 0;
    }
    if (a.sequence() && b.sequence() && a.is_tuple() == b.is_tuple()) {
        const Values &x = a.sequence()->items, &y = b.sequence()->items;
        for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
            if (!equal(heap, x[i], y[i])) return compare(heap, x[i], y[i], op);
        }
        return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
    }
    fail("'" + std::string(op) + "' not supported between instances of '" + std::string(type_name(a)) +
         "' and '" + std::string(type_name(b)) + "'");
}

bool contains(Heap& heap, const Value& container, const Value& item) {
    if (const Text* text = container.text()) {
        const Text* part = item.text();
        if (!part) fail("'in <string>' requires string as left operand, not " + std::string(type_name(item)));
        heap.handle(text->bytes.size());
        return text->bytes.find(part->bytes) != std::string::npos;
    }
    if (const Dict* dict = container.dict()) return dict->find(heap, item) != nullptr;
    if (const View* view = container.view(); view && view->kind == View::keys)
        return view->dict->find(heap, item) != nullptr;
    if (!is_iterable(container))
        fail("argument of type '" + std::string(type_name(container)) + "' is not iterable");
    const auto next = iterate(heap, container);
    for (Value value; next(value);) {
        if (same_object(value, item) || equal(heap, value, item)) return true;
    }
    return false;
}

std::uint64_t hash(Heap& heap, const Value& value) {
    heap.step();
    if (const Text* text = value.text()) {
        heap.handle(text->bytes.size());
        return hash_bytes(text->bytes);
    }
    if (const auto integer = value.integer()) return static_cast<std::uint64_t>(*integer);
    if (const double* real = value.get<double>()) {
        if (std::floor(*real) == *real && std::abs(*real) < 9e18)
            return static_cast<std::uint64_t>(static_cast<std::int64_t>(*real));
        return std::hash<double>()(*real);
    }
    if (value.is_tuple()) {
        std::uint64_t sum = 0x345678;
        for (const Value& item : value.sequence()->items) sum = sum * 1000003 + hash(heap, item);
        return sum;
    }
    if (value.sequence() || value.dict() || value.view())
        fail("unhashable type: '" + std::string(type_name(value)) + "'");
    return static_cast<std::uint64_t>(type_name(value).size());
}

// ---- iterating

bool is_iterable(const Value& value) { return length(value).has_value() || value.iterator() || value.loop(); }

std::function<bool(Value&)> iterate(Heap& heap, const Value& value) {
    if (const Text* text = value.text()) {
        return [&heap, value, text, at = std::size_t{0}](Value& out) mutable {
            heap.step();
            if (at >= text->bytes.size()) return false;
            const std::size_t start = at;
            next_code_point(text->bytes, at);
            out = heap.text(text->slice(start, at));
            return true;
        };
    }
    if (const List* list = value.sequence()) {
        return [&heap, value, list, i = std::size_t{0}](Value& out) mutable {
            heap.step();
            if (i >= list->items.size()) return false;
            out = list->items[i++];
            return true;
        };
    }
    if (value.dict() || value.view()) {
        const Dict* dict = value.view() ? value.view()->dict.get() : value.dict();
        const View::Kind kind = value.view() ? value.view()->kind : View::keys;
        return [&heap, value, dict, kind, i = std::size_t{0}](Value& out) mutable {
            heap.step();
            if (i >= dict->items.size()) return false;
            const auto& [key, item] = dict->items[i++];
            out = kind == View::keys ? key : kind == View::values ? item : heap.tuple({key, item});
            return true;
        };
    }
    if (const Range* range = value.range()) {
        return [&heap, range = *range, i = std::int64_t{0}](Value& out) mutable {
            heap.step();
            if (i >= range.length) return false;
            out = range.start + range.step * i++;
            return true;
        };
    }
    if (Iterator* iterator = value.iterator()) {
        return [value, iterator](Value& out) { return iterator->next(out); };
    }
    if (value.is_undefined()) return [](Value&) { return false; };
    fail("'" + std::string(type_name(value)) + "' object is not iterable");
}

Values to_list(Heap& heap, const Value& value) {
    Values items;
    const auto next = iterate(heap, value);
    for (Value item; next(item);) {
        items.push_back(std::move(item));
        heap.reserve(items.size() * sizeof(Value));
    }
    return items;
}

Values sorted(Heap& heap, const Values& items, const Values& keys, bool reverse) {
    std::vector<std::size_t> order(items.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    // Without nan, this is a strict weak ordering; with it, Python's result is arbitrary too, but
    // std::stable_sort must not be fed with one.
    const std::function<bool(const Value&)> has_nan = [&](const Value& key) {
        if (const double* real = key.get<double>()) return std::isnan(*real);
        const List* list = key.sequence();
        return list && std::any_of(list->items.begin(), list->items.end(), has_nan);
    };
    if (std::any_of(keys.begin(), keys.end(), has_nan)) fail("nan cannot be sorted");
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return reverse ? compare(heap, keys[b], keys[a], "<") == -1
                       : compare(heap, keys[a], keys[b], "<") == -1;
    });
    Values out;
    for (const std::size_t i : order) out.push_back(items[i]);
    return out;
}

// ---- JSON

json::Value to_json(Heap& heap, const Value& value) {
    heap.step();
    if (value.is_none()) return nullptr;
    if (const bool* flag = value.get<bool>()) return *flag;
    if (const auto integer = value.integer()) return *integer;
    if (const double* real = value.get<double>()) return *real;
    if (const Text* text = value.text()) {
        heap.handle(text->bytes.size());
        heap.reserve(text->bytes.size());
        return text->bytes;
    }
    if (const List* list = value.sequence()) {
        json::Array items;
        for (const Value& item : list->items) items.push_back(to_json(heap, item));
        heap.reserve(items.size() * sizeof(json::Value));
        return items;
    }
    if (const Dict* dict = value.dict()) {
        std::vector<json::Member> members;
        for (const auto& [key, item] : dict->items) {
            const bool is_name = key.text() || key.is_none() || key.number();
            if (!is_name)
                fail("keys must be str, int, float, bool or None, not " + std::string(type_name(key)));
            std::string name = key.text() ? key.text()->bytes : json::dump(to_json(heap, key));
            members.push_back({std::move(name), to_json(heap, item)});
        }
        return json::Object(std::move(members));
    }
    fail("Object of type " + std::string(type_name(value)) + " is not JSON serializable");
}

Origin origin_of(Heap& heap, const Value& value) {
    heap.step();
    if (const Text* text = value.text()) return text->origin();
    const auto first_marked = [&](const auto& items, const auto& origin) {
        for (const auto& item : items) {
            if (const Origin found = origin(item); found != Origin::own) return found;
        }
        return Origin::own;
    };
    const auto of_value = [&](const Value& item) { return origin_of(heap, item); };
    if (const List* list = value.sequence()) return first_marked(list->items, of_value);
    if (const Dict* dict = value.dict()) {
        return first_marked(dict->items, [&](const auto& item) {
            const Origin of_key = of_value(item.first);
            return of_key == Origin::own ? of_value(item.second) : of_key;
        });
    }
    return Origin::own;
}

}  // namespace edgekit::tmpl
