// JSON: what parse accepts and refuses, and that dump writes what Python's json.dumps writes.
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "error.h"
#include "format/json.h"

namespace {

using namespace edgekit;

int failures = 0;

void check(bool ok, const std::string& what) {
    if (ok) return;
    ++failures;
    std::printf("FAILED: %s\n", what.c_str());
}

void check_dump(const std::string& text, const std::string& expected, const json::DumpOptions& options = {}) {
    const std::string got = json::dump(json::parse(text), options);
    check(got == expected, text + " -> " + got + ", expected " + expected);
}

void check_refused(const std::string& text, const std::string& reason) {
    try {
        json::parse(text);
    } catch (const Error& error) {
        const std::string message = error.what();
        check(error.status() == Status::invalid_file, text + ": wrong status");
        check(message.find(reason) != message.npos, text + ": '" + message + "' lacks '" + reason + "'");
        return;
    }
    check(false, text + " was accepted");
}

void test_dump() {
    check_dump(R"( { "b" : [ 1 , -2.50, 1e5, true, false, null, "x" ], "a" : { } } )",
               R"({"b": [1, -2.5, 100000.0, true, false, null, "x"], "a": {}})");
    check_dump(R"({"a":1,"b":2,"a":3})", R"({"a": 3, "b": 2})");
    check_dump(R"("\u00e9\ud83d\ude00\/\n\u0001\u007f")", "\"\u00e9\U0001f600/\\n\\u0001\x7f\"");
    check_dump(R"("\u00e9\ud83d\ude00\u007f")", R"("\u00e9\ud83d\ude00\u007f")", {.ensure_ascii = true});
    check_dump(R"({"b":[1,[]],"a":{}})", "{\n  \"a\": {},\n  \"b\": [\n    1,\n    []\n  ]\n}",
               {.sort_keys = true, .indent = "  "});
    check_dump("[1,{\"a\":2}]", "[1,{\"a\":2}]", {.item_separator = ",", .key_separator = ":"});
    check_dump("[9223372036854775807,-9223372036854775808,9223372036854775808]",
               "[9223372036854775807, -9223372036854775808, 9.223372036854776e+18]");
    check_dump("[1e999,-1e999,1e-999,-0.0,0.1,1e16,1e15,0.0001,0.00001]",
               "[Infinity, -Infinity, 0.0, -0.0, 0.1, 1e+16, 1000000000000000.0, 0.0001, 1e-05]");
    check_dump(std::string(64, '[') + std::string(64, ']'), std::string(64, '[') + std::string(64, ']'));
    check(json::format_double(5e-324) == "5e-324", "the smallest double");
    check(json::format_double(std::numeric_limits<double>::max()) == "1.7976931348623157e+308",
          "the largest double");
    check(json::format_double(std::nan("")) == "nan", "nan");
}

void test_members() {
    std::string seen;
    json::parse_members(
        R"( {"a": 1, "b": [2, {}], "a": 3} )",
        [&](const std::string& key, const json::Value& value) { seen += key + json::dump(value) + ";"; });
    check(seen == "a1;b[2, {}];a3;", "members as they come: " + seen);
    json::parse_members("{}", [](const std::string&, const json::Value&) { check(false, "no member"); });
    for (const char* text : {"[]", "", "{\"a\":1}}", "{\"a\":1"}) {
        bool refused = false;
        try {
            json::parse_members(text, [](const std::string&, const json::Value&) {});
        } catch (const Error&) {
            refused = true;
        }
        check(refused, std::string("no document of members: ") + text);
    }
}

// What values take in memory, many times their text, can be bounded.
void test_max_bytes() {
    const auto fits = [](const std::string& text) {
        try {
            json::parse(text, {.max_bytes = 4 * text.size() + 1000});
            return true;
        } catch (const Error& error) {
            const std::string message = error.what();
            check(message.find("bytes allowed") != message.npos, message);
            return false;
        }
    };
    const auto repeated = [](std::string_view item) {
        std::string text = "[";
        for (int i = 0; i < 1000; ++i) text.append(item) += ',';
        return text + "0]";
    };
    check(fits(repeated(R"("a string of a name's length, or of a hash's length")")), "ordinary text");
    for (const char* item : {"0", "[]", "{}", "[[]]", R"({"":0})", "\"\""})
        check(!fits(repeated(item)), std::string("a thousand times ") + item);
}

void test_refusals() {
    check_refused("", "expected a value at byte 0, where the text ends");
    check_refused("[1,]", "expected a value at byte 3");
    check_refused("{\"a\":1,}", "expected a key in double quotes at byte 7");
    check_refused("{1:2}", "expected a key");
    check_refused("[1 2]", "expected ','");
    check_refused("[1] x", "after the end");
    check_refused(std::string("1\0", 2), "after the end");
    check_refused("01", "may not start with 0");
    check_refused("1.", "expected a digit");
    check_refused("1e+", "expected a digit");
    check_refused("NaN", "expected a value");
    check_refused("\"a", "has no end");
    check_refused("\"\n\"", "control character");
    check_refused("\"\\x\"", "unknown escape");
    check_refused("\"\\u12g4\"", "hexadecimal");
    check_refused("\"\\ud800\"", "surrogate");
    check_refused("\"\\ud800\\u0041\"", "surrogate");
    check_refused("\"\\udc00\"", "surrogate");
    for (const char* bytes :
         {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x9f\x98", "\xff"}) {
        check_refused(std::string("\"") + bytes + "\"", "not valid UTF-8 at byte 1");
    }
    check_refused(std::string(65, '[') + std::string(65, ']'), "nested deeper than 64 levels");
    check_refused(std::string(1000000, '['), "nested deeper");
}

void test_access() {
    const json::Value value = json::parse(R"({"n": 3, "s": "text", "a": [1], "o": {"k": true}})");
    check(value.int_at("n") == 3 && value.double_at("n") == 3.0, "an integer, also as a double");
    check(value.string_at("s") == "text" && value.array_at("a").size() == 1, "a string and an array");
    check(value.at("o").bool_at("k"), "a nested boolean");
    check(value.find("absent") == nullptr, "an absent key");
    const auto message = [](auto&& access) -> std::string {
        try {
            access();
        } catch (const Error& error) {
            return error.what();
        }
        return "no error";
    };
    check(message([&] { value.at("absent"); }) == "JSON: the key 'absent' is missing",
          "the absent key is named");
    check(message([&] { value.int_at("s"); }) == "JSON: 's': expected an integer, found a string (\"text\")",
          "the kind is named");
    check(message([&] { value.at("n").as_int_in(4, 9, "n"); }) ==
              "JSON: 'n': expected an integer from 4 to 9, found 3",
          "the range is named");
    check(message([&] { value.at("a").find("k"); }).find("found an array") != std::string::npos,
          "find needs an object");
}

// Keys in hostile numbers must not take quadratic time: this would not end.
void test_many_keys() {
    std::string text = "{";
    for (int i = 0; i < 300000; ++i)
        text += "\"" + std::to_string(i % 200000) + "\":" + std::to_string(i) + ",";
    text.back() = '}';
    const json::Value value = json::parse(text);
    check(value.as_object().size() == 200000, "duplicate keys are merged");
    check(value.int_at("0") == 200000 && value.int_at("150000") == 150000, "the last of equal keys wins");
    check(value.as_object().begin()->key == "0", "and stays at the place of the first");
}

}  // namespace

int main() {
    test_dump();
    test_members();
    test_max_bytes();
    test_refusals();
    test_access();
    test_many_keys();
    return failures == 0 ? 0 : 1;
}
