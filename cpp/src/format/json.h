// JSON (RFC 8259): a value, a strict parser, and a writer that matches Python's json.dumps.
#pragma once

#include <concepts>
#include <cstddef>
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

namespace edgekit::json {

class Value;
class Object;
using Array = std::vector<Value>;

enum class Kind { null, boolean, integer, real, string, array, object };

// An immutable JSON value. Copying is cheap: arrays and objects are shared.
// Every accessor that finds another kind throws Error(Status::invalid_file); `name` says in that message
// whose value it was.
class Value {
public:
    Value() = default;
    Value(std::nullptr_t) {}
    template <std::same_as<bool> T>
    Value(T value) : data_(value) {}
    template <std::integral T>
        requires(!std::same_as<T, bool>)
    Value(T value) {
        if (std::in_range<std::int64_t>(value))
            data_ = static_cast<std::int64_t>(value);
        else
            data_ = static_cast<double>(value);
    }
    template <std::floating_point T>
    Value(T value) : data_(static_cast<double>(value)) {}
    Value(std::string value) : data_(std::move(value)) {}
    Value(std::string_view value) : data_(std::string(value)) {}
    Value(const char* value) : data_(std::string(value)) {}
    Value(Array value);
    Value(Object value);

    Kind kind() const { return static_cast<Kind>(data_.index()); }
    bool is_null() const { return kind() == Kind::null; }
    bool is_bool() const { return kind() == Kind::boolean; }
    bool is_number() const { return kind() == Kind::integer || kind() == Kind::real; }
    bool is_string() const { return kind() == Kind::string; }
    bool is_array() const { return kind() == Kind::array; }
    bool is_object() const { return kind() == Kind::object; }

    bool as_bool(std::string_view name = {}) const;
    std::int64_t as_int(std::string_view name = {}) const;
    // The same, and within [low, high].
    std::int64_t as_int_in(std::int64_t low, std::int64_t high, std::string_view name = {}) const;
    double as_double(std::string_view name = {}) const;  // integers too
    const std::string& as_string(std::string_view name = {}) const;
    const Array& as_array(std::string_view name = {}) const;
    const Object& as_object(std::string_view name = {}) const;

    // The member named `key` of an object: nullptr when it is absent.
    const Value* find(std::string_view key) const;
    // The same, but an absent member is an error that names it.
    const Value& at(std::string_view key) const;
    bool bool_at(std::string_view key) const { return at(key).as_bool(key); }
    std::int64_t int_at(std::string_view key) const { return at(key).as_int(key); }
    double double_at(std::string_view key) const { return at(key).as_double(key); }
    const std::string& string_at(std::string_view key) const { return at(key).as_string(key); }
    const Array& array_at(std::string_view key) const { return at(key).as_array(key); }

private:
    // In the order of Kind.
    std::variant<std::monostate, bool, std::int64_t, double, std::string, std::shared_ptr<const Array>,
                 std::shared_ptr<const Object>>
        data_;
};

struct Member {
    std::string key;
    Value value;
};

// Members in the order in which their keys first appeared; found by key in O(log n).
class Object {
public:
    Object() = default;
    // Of equal keys the last value wins, at the place of the first, as in a Python dict. O(n log n).
    explicit Object(std::vector<Member> members);

    const Value* find(std::string_view key) const;
    // Adds or replaces. O(n).
    void set(std::string key, Value value);

    std::size_t size() const { return members_.size(); }
    bool empty() const { return members_.empty(); }
    auto begin() const { return members_.begin(); }
    auto end() const { return members_.end(); }

private:
    std::vector<std::uint32_t>::const_iterator lower_bound(std::string_view key) const;

    std::vector<Member> members_;
    std::vector<std::uint32_t> by_key_;  // indices into members_, sorted by key
};

struct ParseOptions {
    int max_depth = 64;                                               // of nested arrays and objects
    std::size_t max_bytes = std::numeric_limits<std::size_t>::max();  // of memory, for the values at one time
};

// Parses one JSON document in UTF-8. Integers that do not fit int64 become doubles.
// Throws Error(Status::invalid_file) with the byte where it stopped.
Value parse(std::string_view text, const ParseOptions& options = {});

// Parses a document that is one object and calls visit(key, value) for each member as it comes, repeated keys
// included: of the members no more than one is held at a time, and max_bytes is for each.
void parse_members(std::string_view text, const std::function<void(std::string key, Value value)>& visit,
                   const ParseOptions& options = {});

// The arguments of Python's json.dumps; separators left empty take Python's defaults.
struct DumpOptions {
    bool ensure_ascii = false;
    bool sort_keys = false;
    std::optional<std::string> indent = {};  // what one level is indented by
    std::string item_separator = {};
    std::string key_separator = {};
};

std::string dump(const Value& value, const DumpOptions& options = {});

// `text` as a JSON string, quotes included.
std::string quote(std::string_view text, bool ensure_ascii = false);

// The shortest decimal that reads back as `value`, as Python's repr() writes it: 1.0, 1e-05, inf, nan.
std::string format_double(double value);

// A decimal as JSON or Python writes it, whatever the process's locale; nothing when it is none.
std::optional<double> parse_double(std::string_view text);

}  // namespace edgekit::json
