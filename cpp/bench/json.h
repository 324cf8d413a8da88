// One flat JSON object, member by member, as the benchmark's programs answer.
#pragma once

#include <cmath>
#include <cstdio>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace edgekit::bench {

inline std::string quoted(std::string_view text) {
    std::string out = "\"";
    char escaped[8];
    for (const char c : text)
        if (static_cast<unsigned char>(c) < 0x20) {
            std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
            out += escaped;
        } else {
            if (c == '"' || c == '\\') out += '\\';
            out += c;
        }
    return out + '"';
}

class Json {
public:
    Json& add(const char* name, std::string_view text) { return put(name, quoted(text)); }
    Json& add(const char* name, const char* text) { return put(name, quoted(text)); }
    Json& add(const char* name, bool value) { return put(name, value ? "true" : "false"); }
    template <class Number>
        requires(std::is_arithmetic_v<Number> && !std::is_same_v<Number, bool>)
    Json& add(const char* name, Number value) {
        return put(name, number(value));
    }
    // null where there is none.
    template <class T>
    Json& add(const char* name, const std::optional<T>& value) {
        return value ? add(name, *value) : put(name, "null");
    }
    template <class T>
    Json& add(const char* name, const std::vector<T>& values) {
        std::string list;
        for (const T value : values) list += (list.empty() ? "" : ", ") + number(value);
        return put(name, "[" + list + "]");
    }
    std::string text() const { return "{" + members_ + "}"; }

private:
    Json& put(const char* name, const std::string& value) {
        members_ += (members_.empty() ? "" : ", ") + quoted(name) + ": " + value;
        return *this;
    }
    template <class Number>
    static std::string number(Number value) {
        if constexpr (std::is_floating_point_v<Number>)
            if (!std::isfinite(value)) return "null";  // JSON has no word for it
        std::ostringstream out;
        out.precision(9);
        out << value;
        return out.str();
    }

    std::string members_;
};

}  // namespace edgekit::bench
