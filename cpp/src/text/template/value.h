// The values of a chat template, with Python's semantics: what str(), repr(), ==, <, hash() and iteration
// make of them.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "error.h"
#include "format/json.h"
#include "text/marked_text.h"

namespace edgekit::tmpl {

class Value;
class Heap;
struct Dict;
struct Iterator;
struct Namespace;
struct Macro;
struct Loop;

using Values = std::vector<Value>;

// A failure of the template itself, in the status that callers see.
[[noreturn]] void fail(const std::string& message);

// A string: valid UTF-8. `safe` marks Python's Markup, which escapes what is added to it.
struct Text : MarkedText {
    std::size_t length;  // in code points
    bool safe;
};

struct List {
    Values items;
    int depth;  // of nested values, itself included
};

struct Range {
    std::int64_t start, step, length;
};

// dict.items(), dict.keys(), dict.values().
struct View {
    enum Kind { items, keys, values } kind;
    std::shared_ptr<const Dict> dict;
};

// A name that was not found. `message` tells what; empty when nobody will ask.
struct Undefined {
    std::shared_ptr<const std::string> message;
};

struct None {};

// A list that cannot change, and looks different.
struct Tuple {
    std::shared_ptr<const List> list;
};

enum class Function { range, dict, make_namespace, raise_exception, strftime_now };

// obj.name, not called yet.
struct Method;

class Value {
public:
    using Data = std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const Text>,
                              std::shared_ptr<const List>, Tuple, std::shared_ptr<const Dict>,
                              std::shared_ptr<const Range>, std::shared_ptr<const View>,
                              std::shared_ptr<Iterator>, Namespace*, std::shared_ptr<const Macro>,
                              std::shared_ptr<const Method>, Function, std::shared_ptr<Loop>>;

    Value() : data_(Undefined{}) {}
    template <class T>
        requires(!std::same_as<std::remove_cvref_t<T>, Value>)
    Value(T&& data) : data_(std::forward<T>(data)) {}

    template <class T>
    const T* get() const {
        return std::get_if<T>(&data_);
    }

    template <class Visitor>
    auto visit(Visitor&& visitor) const {
        return std::visit(std::forward<Visitor>(visitor), data_);
    }

    bool is_undefined() const { return get<Undefined>() != nullptr; }
    bool is_none() const { return get<None>() != nullptr; }
    bool is_bool() const { return get<bool>() != nullptr; }
    bool is_float() const { return get<double>() != nullptr; }

    const Text* text() const { return pointer<std::shared_ptr<const Text>>(); }
    const Dict* dict() const { return pointer<std::shared_ptr<const Dict>>(); }
    const Range* range() const { return pointer<std::shared_ptr<const Range>>(); }
    const View* view() const { return pointer<std::shared_ptr<const View>>(); }
    Iterator* iterator() const { return pointer<std::shared_ptr<Iterator>>(); }
    const Method* method() const { return pointer<std::shared_ptr<const Method>>(); }
    const Macro* macro() const { return pointer<std::shared_ptr<const Macro>>(); }
    Loop* loop() const { return pointer<std::shared_ptr<Loop>>(); }
    Namespace* name_space() const {
        const auto* found = get<Namespace*>();
        return found ? *found : nullptr;
    }
    // The items of a list or a tuple.
    const List* sequence() const {
        if (const auto* tuple = get<Tuple>()) return tuple->list.get();
        return pointer<std::shared_ptr<const List>>();
    }
    bool is_tuple() const { return get<Tuple>() != nullptr; }
    // Booleans are integers, as in Python.
    std::optional<std::int64_t> integer() const {
        if (const auto* value = get<std::int64_t>()) return *value;
        if (const auto* value = get<bool>()) return *value ? 1 : 0;
        return std::nullopt;
    }
    std::optional<double> number() const {
        if (const auto* value = get<double>()) return *value;
        if (const auto value = integer()) return static_cast<double>(*value);
        return std::nullopt;
    }

private:
    template <class Pointer>
    auto pointer() const -> decltype(std::declval<Pointer>().get()) {
        const auto* found = get<Pointer>();
        return found ? found->get() : nullptr;
    }

    Data data_;
};

// Keys and values in the order of insertion; a key is found by hash. Never changes once it is made.
struct Dict {
    std::vector<std::pair<Value, Value>> items;
    std::vector<std::pair<std::uint64_t, std::uint32_t>> index;  // (hash, position), sorted
    int depth;

    const Value* find(Heap& heap, const Value& key) const;
    const Value* find(std::string_view key) const;
};

// What can be iterated once: a generator.
struct Iterator {
    std::function<bool(Value&)> next;
    int depth;
};

struct Namespace {
    std::vector<std::pair<std::string, Value>> attributes;

    Value* find(std::string_view name);
    void set(std::string_view name, Value value);
};

struct Method {
    Value self;
    std::string name;
};

// `loop`, inside a for loop.
struct Loop {
    std::function<bool(Value&)> next;
    Value iterable;

    std::int64_t index0 = -1;
    std::optional<Value> before, current, after;
    std::optional<std::int64_t> known_length;

    bool advance();
    const std::optional<Value>& peek();
    std::int64_t length(Heap& heap);
};

struct Limits {
    std::uint64_t max_steps = 50'000'000;                // nodes run, items visited, and bytes handled / 32
    std::uint64_t max_bytes = std::uint64_t{256} << 20;  // of values alive at one time, and of output
};

// Makes every value that takes memory, and stops a template that wants too much memory or time.
class Heap {
public:
    static constexpr int max_depth = 128;

    explicit Heap(const Limits& limits) : limits_(limits) {}
    Heap(const Heap&) = delete;
    Heap& operator=(const Heap&) = delete;

    void step(std::uint64_t n = 1) {
        steps_ += n;
        if (steps_ > limits_.max_steps)
            fail("the chat template runs too long: more than " + std::to_string(limits_.max_steps) +
                 " steps");
    }
    void handle(std::size_t bytes) { step(1 + bytes / 32); }
    // To be called before that many bytes are allocated.
    void reserve(std::uint64_t bytes) const {
        if (bytes > limits_.max_bytes || live_ + bytes > limits_.max_bytes) {
            fail("the chat template needs too much memory: more than " + std::to_string(limits_.max_bytes) +
                 " bytes");
        }
    }
    // For what lives until the end of the rendering.
    void keep(std::uint64_t bytes) {
        reserve(bytes);
        live_ += bytes;
    }

    Value text(MarkedText text, bool safe = false);
    Value text(std::string own, bool safe = false) { return text(MarkedText(std::move(own)), safe); }
    Value list(Values items);
    Value tuple(Values items);
    // Of equal keys the last value wins, at the place of the first. An unhashable key is a failure.
    Value dict(std::vector<std::pair<Value, Value>> items);
    // `source`: what `next` draws from, and holds.
    Value iterator(std::function<bool(Value&)> next, const Value& source);
    Value method(Value self, std::string_view name);
    static Value undefined(std::string message);

    // Its strings, keys included, are of that origin.
    Value from_json(const json::Value& value, Origin origin);
    // Values hold each other to a limited depth, so that walking and freeing them needs little stack.
    void check_nesting(const Value& value) const;

private:
    template <class T>
    struct Owned;
    template <class T>
    std::shared_ptr<const T> own(T value, std::size_t bytes);
    int depth_of(const Values& items) const;

    Limits limits_;
    std::uint64_t steps_ = 0;
    std::uint64_t live_ = 0;
};

// "str", "dict", ...: the name Python gives the type.
std::string_view type_name(const Value& value);

bool truth(Heap& heap, const Value& value);
MarkedText to_text(Heap& heap, const Value& value);  // str()
bool same_object(const Value& a, const Value& b);    // `is`
bool equal(Heap& heap, const Value& a, const Value& b);
// -1, 0, 1; nothing when one of them is not a number (nan). `op` is for the message when they cannot be
// ordered.
std::optional<int> compare(Heap& heap, const Value& a, const Value& b, std::string_view op);
bool contains(Heap& heap, const Value& container, const Value& item);
std::uint64_t hash(Heap& heap, const Value& value);
std::optional<std::int64_t> length(const Value& value);  // len(); nothing when it has none
bool is_iterable(const Value& value);
// A generator over anything iterable; a failure otherwise.
std::function<bool(Value&)> iterate(Heap& heap, const Value& value);
Values to_list(Heap& heap, const Value& value);
json::Value to_json(Heap& heap, const Value& value);
// Of what is made of all the strings in `value`: that of the first which is not the template's own.
Origin origin_of(Heap& heap, const Value& value);
// Sorts as Python's sorted(): stable, by `keys`.
Values sorted(Heap& heap, const Values& items, const Values& keys, bool reverse);

// `text` as it is added to one that is `safe`, or is not: Markup escapes it unless it is Markup itself.
MarkedText added(const Text& text, bool safe);
// The text of `value`, which must be a string; `what` names it in the failure.
const Text& expect_text(const Value& value, std::string_view what);
std::int64_t expect_int(const Value& value, std::string_view what);

// Any use of an undefined value beside printing, testing and iterating is a failure with its message.
[[noreturn]] void fail_undefined(const Value& value);

}  // namespace edgekit::tmpl
