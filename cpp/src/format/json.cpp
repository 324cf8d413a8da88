#include "format/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <locale>
#include <numeric>
#include <sstream>

#include "error.h"

namespace edgekit::json {

namespace {

constexpr std::string_view kind_names[] = {"null",     "a boolean", "an integer", "a number",
                                           "a string", "an array",  "an object"};

std::string_view kind_name(Kind kind) { return kind_names[static_cast<std::size_t>(kind)]; }

[[noreturn]] void wrong_kind(const Value& value, std::string_view expected, std::string_view name) {
    std::string message = "JSON: ";
    if (!name.empty()) message += "'" + std::string(name) + "': ";
    message += "expected " + std::string(expected) + ", found " + std::string(kind_name(value.kind()));
    if (value.is_number() || value.is_bool()) message += " (" + dump(value) + ")";
    if (value.is_string()) message += " (" + quote(std::string_view(value.as_string()).substr(0, 60)) + ")";
    throw Error(Status::invalid_file, message);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

Value::Value(Array value) : data_(std::make_shared<const Array>(std::move(value))) {}
Value::Value(Object value) : data_(std::make_shared<const Object>(std::move(value))) {}

bool Value::as_bool(std::string_view name) const {
    if (const auto* value = std::get_if<bool>(&data_)) return *value;
    wrong_kind(*this, "a boolean", name);
}

std::int64_t Value::as_int(std::string_view name) const {
    if (const auto* value = std::get_if<std::int64_t>(&data_)) return *value;
    wrong_kind(*this, "an integer", name);
}

std::int64_t Value::as_int_in(std::int64_t low, std::int64_t high, std::string_view name) const {
    const std::int64_t value = as_int(name);
    if (value < low || value > high) {
        throw Error(Status::invalid_file, "JSON: '" + std::string(name) + "': expected an integer from " +
                                              std::to_string(low) + " to " + std::to_string(high) +
                                              ", found " + std::to_string(value));
    }
    return value;
}

double Value::as_double(std::string_view name) const {
    if (const auto* value = std::get_if<double>(&data_)) return *value;
    if (const auto* value = std::get_if<std::int64_t>(&data_)) return static_cast<double>(*value);
    wrong_kind(*this, "a number", name);
}

const std::string& Value::as_string(std::string_view name) const {
    if (const auto* value = std::get_if<std::string>(&data_)) return *value;
    wrong_kind(*this, "a string", name);
}

const Array& Value::as_array(std::string_view name) const {
    if (const auto* value = std::get_if<std::shared_ptr<const Array>>(&data_)) return **value;
    wrong_kind(*this, "an array", name);
}

const Object& Value::as_object(std::string_view name) const {
    if (const auto* value = std::get_if<std::shared_ptr<const Object>>(&data_)) return **value;
    wrong_kind(*this, "an object", name);
}

const Value* Value::find(std::string_view key) const {
    if (!is_object()) wrong_kind(*this, "an object with the key '" + std::string(key) + "'", {});
    return as_object().find(key);
}

const Value& Value::at(std::string_view key) const {
    if (const Value* value = find(key)) return *value;
    throw Error(Status::invalid_file, "JSON: the key '" + std::string(key) + "' is missing");
}

Object::Object(std::vector<Member> members) : members_(std::move(members)) {
    if (members_.size() > std::numeric_limits<std::uint32_t>::max()) {
        throw Error(Status::invalid_file,
                    "JSON: an object has too many members: " + std::to_string(members_.size()));
    }
    by_key_.resize(members_.size());
    std::iota(by_key_.begin(), by_key_.end(), 0u);
    const auto key_of = [this](std::uint32_t i) -> const std::string& { return members_[i].key; };
    std::sort(by_key_.begin(), by_key_.end(), [&](std::uint32_t a, std::uint32_t b) {
        const int order = key_of(a).compare(key_of(b));
        return order != 0 ? order < 0 : a < b;
    });
    std::vector<bool> duplicate(members_.size());
    bool any_duplicate = false;
    for (std::size_t i = 0; i < by_key_.size();) {
        const std::uint32_t first = by_key_[i];
        std::size_t next = i + 1;
        for (; next < by_key_.size() && key_of(by_key_[next]) == key_of(first); ++next)
            duplicate[by_key_[next]] = true;
        if (next > i + 1) {
            members_[first].value = std::move(members_[by_key_[next - 1]].value);
            any_duplicate = true;
        }
        i = next;
    }
    if (!any_duplicate) return;
    std::vector<Member> unique;
    for (std::size_t i = 0; i < members_.size(); ++i) {
        if (!duplicate[i]) unique.push_back(std::move(members_[i]));
    }
    *this = Object(std::move(unique));
}

std::vector<std::uint32_t>::const_iterator Object::lower_bound(std::string_view key) const {
    return std::lower_bound(
        by_key_.begin(), by_key_.end(), key,
        [this](std::uint32_t i, std::string_view wanted) { return members_[i].key < wanted; });
}

const Value* Object::find(std::string_view key) const {
    const auto place = lower_bound(key);
    if (place == by_key_.end() || members_[*place].key != key) return nullptr;
    return &members_[*place].value;
}

void Object::set(std::string key, Value value) {
    const auto place = lower_bound(key);
    if (place != by_key_.end() && members_[*place].key == key) {
        members_[*place].value = std::move(value);
        return;
    }
    by_key_.insert(place, static_cast<std::uint32_t>(members_.size()));
    members_.push_back({std::move(key), std::move(value)});
}

namespace {

class Parser {
public:
    Parser(std::string_view text, const ParseOptions& options)
        : text_(text), max_depth_(options.max_depth), max_bytes_(options.max_bytes), left_(max_bytes_) {}

    Value document() {
        skip_space();
        Value value = parse_value(0);
        skip_space();
        if (at_ != text_.size()) fail("text after the end of the document");
        return value;
    }

    void members(const std::function<void(std::string, Value)>& visit) {
        skip_space();
        if (peek() != '{') fail("expected an object");
        parse_object_members(0, [&](std::string key, Value value) {
            left_ = max_bytes_;
            visit(std::move(key), std::move(value));
        });
        skip_space();
        if (at_ != text_.size()) fail("text after the end of the document");
    }

private:
    // Vectors that grow hold their elements up to three times for a moment.
    static constexpr std::size_t kItemBytes = 3 * sizeof(Value);
    static constexpr std::size_t kMemberBytes = 3 * (sizeof(Member) + sizeof(std::uint32_t));
    static constexpr std::size_t kContainerBytes = sizeof(Object) + 32;

    // Before that much memory is taken.
    void charge(std::size_t bytes) {
        if (bytes > left_)
            fail("values that take more than the " + std::to_string(max_bytes_) + " bytes allowed");
        left_ -= bytes;
    }

    [[noreturn]] void fail(const std::string& what) const {
        std::string message = "JSON: " + what + " at byte " + std::to_string(at_);
        if (at_ < text_.size()) {
            const auto byte = static_cast<unsigned char>(text_[at_]);
            message += byte >= 0x20 && byte < 0x7f ? std::string(", before '") + text_[at_] + "'"
                                                   : ", before the byte " + std::to_string(byte);
        } else {
            message += ", where the text ends";
        }
        throw Error(Status::invalid_file, message);
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void skip_space() {
        while (at_ < text_.size() &&
               (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
            ++at_;
    }

    void expect(char c) {
        if (peek() != c || at_ >= text_.size()) fail(std::string("expected '") + c + "'");
        ++at_;
    }

    bool take(char c) {
        if (peek() != c) return false;
        ++at_;
        return true;
    }

    Value literal(std::string_view word, Value value) {
        if (text_.substr(at_, word.size()) != word) fail("expected a value");
        at_ += word.size();
        return value;
    }

    Value parse_value(int depth) {
        switch (peek()) {
            case '{':
                return parse_object(depth);
            case '[':
                return parse_array(depth);
            case '"':
                return parse_string();
            case 't':
                return literal("true", true);
            case 'f':
                return literal("false", false);
            case 'n':
                return literal("null", nullptr);
            default:
                return parse_number();
        }
    }

    void enter(int depth) {
        if (depth >= max_depth_) fail("nested deeper than " + std::to_string(max_depth_) + " levels");
        ++at_;
        skip_space();
    }

    Value parse_array(int depth) {
        enter(depth);
        charge(kContainerBytes);
        Array items;
        if (take(']')) return items;
        for (;;) {
            skip_space();
            charge(kItemBytes);
            items.push_back(parse_value(depth + 1));
            skip_space();
            if (take(']')) return items;
            expect(',');
        }
    }

    Value parse_object(int depth) {
        charge(kContainerBytes);
        std::vector<Member> members;
        parse_object_members(depth, [&](std::string key, Value value) {
            charge(kMemberBytes);
            members.push_back({std::move(key), std::move(value)});
        });
        return Object(std::move(members));
    }

    template <class Visit>
    void parse_object_members(int depth, const Visit& visit) {
        enter(depth);
        if (take('}')) return;
        for (;;) {
            skip_space();
            if (peek() != '"') fail("expected a key in double quotes");
            std::string key = parse_string();
            skip_space();
            expect(':');
            skip_space();
            visit(std::move(key), parse_value(depth + 1));
            skip_space();
            if (take('}')) return;
            expect(',');
        }
    }

    Value parse_number() {
        const std::size_t start = at_;
        take('-');
        if (!is_digit(peek())) {
            at_ = start;
            fail("expected a value");
        }
        if (!take('0'))
            skip_digits();
        else if (is_digit(peek()))
            fail("a number may not start with 0");
        bool real = false;
        if (take('.')) {
            real = true;
            skip_digits();
        }
        if (take('e') || take('E')) {
            real = true;
            if (!take('+')) take('-');
            skip_digits();
        }
        const std::string_view digits = text_.substr(start, at_ - start);
        std::int64_t integer = 0;
        if (!real && std::from_chars(digits.data(), digits.data() + digits.size(), integer).ec == std::errc())
            return integer;
        return parse_double(digits).value();
    }

    void skip_digits() {
        if (!is_digit(peek())) fail("expected a digit");
        while (is_digit(peek())) ++at_;
    }

    std::string parse_string() {
        ++at_;
        std::string out;
        for (;;) {
            if (at_ >= text_.size()) fail("a string has no end");
            const auto c = static_cast<unsigned char>(text_[at_]);
            if (c == '"') {
                ++at_;
                return out;
            }
            if (c == '\\')
                parse_escape(out);
            else if (c < 0x20)
                fail("an unescaped control character in a string");
            else if (c < 0x80)
                out += text_[at_++];
            else
                copy_multibyte(out);
        }
    }

    void copy_multibyte(std::string& out) {
        const auto byte = [this](std::size_t i) {
            return static_cast<unsigned char>(at_ + i < text_.size() ? text_[at_ + i] : 0);
        };
        const unsigned lead = byte(0);
        const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        // RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
        unsigned low = 0x80, high = 0xbf;
        if (lead == 0xe0) low = 0xa0;
        if (lead == 0xed) high = 0x9f;
        if (lead == 0xf0) low = 0x90;
        if (lead == 0xf4) high = 0x8f;
        bool valid = lead >= 0xc2 && lead <= 0xf4 && byte(1) >= low && byte(1) <= high;
        for (std::size_t i = 2; i < length; ++i) valid = valid && byte(i) >= 0x80 && byte(i) <= 0xbf;
        if (!valid) fail("a string is not valid UTF-8");
        out.append(text_.substr(at_, length));
        at_ += length;
    }

    void parse_escape(std::string& out) {
        ++at_;
        const char c = peek();
        switch (c) {
            case '"':
            case '\\':
            case '/':
                out += c;
                break;
            case 'b':
                out += '\b';
                break;
            case 'f':
                out += '\f';
                break;
            case 'n':
                out += '\n';
                break;
            case 'r':
                out += '\r';
                break;
            case 't':
                out += '\t';
                break;
            case 'u': {
                ++at_;
                parse_unicode_escape(out);
                return;
            }
            default:
                fail("an unknown escape in a string");
        }
        ++at_;
    }

    void parse_unicode_escape(std::string& out) {
        std::uint32_t code = parse_hex4();
        if (code >= 0xd800 && code < 0xe000) {
            if (code >= 0xdc00 || text_.substr(at_, 2) != "\\u") fail("half a surrogate pair in a string");
            at_ += 2;
            const std::uint32_t low = parse_hex4();
            if (low < 0xdc00 || low >= 0xe000) fail("half a surrogate pair in a string");
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        if (code < 0x80) {
            out += static_cast<char>(code);
        } else if (code < 0x800) {
            out += static_cast<char>(0xc0 | (code >> 6));
            out += static_cast<char>(0x80 | (code & 0x3f));
        } else if (code < 0x10000) {
            out += static_cast<char>(0xe0 | (code >> 12));
            out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
            out += static_cast<char>(0x80 | (code & 0x3f));
        } else {
            out += static_cast<char>(0xf0 | (code >> 18));
            out += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
            out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
            out += static_cast<char>(0x80 | (code & 0x3f));
        }
    }

    std::uint32_t parse_hex4() {
        std::uint32_t code = 0;
        for (int i = 0; i < 4; ++i, ++at_) {
            const char c = peek();
            if (is_digit(c))
                code = code * 16 + static_cast<std::uint32_t>(c - '0');
            else if (c >= 'a' && c <= 'f')
                code = code * 16 + static_cast<std::uint32_t>(c - 'a' + 10);
            else if (c >= 'A' && c <= 'F')
                code = code * 16 + static_cast<std::uint32_t>(c - 'A' + 10);
            else
                fail("expected four hexadecimal digits");
        }
        return code;
    }

    std::string_view text_;
    std::size_t at_ = 0;
    int max_depth_;
    const std::size_t max_bytes_;
    std::size_t left_;
};

// Reads one code point of valid UTF-8 at `at` and moves past it.
std::uint32_t next_code_point(std::string_view text, std::size_t& at) {
    const auto lead = static_cast<unsigned char>(text[at++]);
    const int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    std::uint32_t code = more == 0 ? lead : lead & (0x3fu >> more);
    for (int i = 0; i < more && at < text.size(); ++i)
        code = (code << 6) | (static_cast<unsigned char>(text[at++]) & 0x3fu);
    return code;
}

class Writer {
public:
    explicit Writer(const DumpOptions& options) : options_(options) {
        item_separator_ = !options.item_separator.empty() ? options.item_separator
                          : options.indent                ? ","
                                                          : ", ";
        key_separator_ = !options.key_separator.empty() ? options.key_separator : ": ";
    }

    std::string take() { return std::move(out_); }

    void write(const Value& value, int depth) {
        switch (value.kind()) {
            case Kind::null:
                out_ += "null";
                break;
            case Kind::boolean:
                out_ += value.as_bool() ? "true" : "false";
                break;
            case Kind::integer:
                out_ += std::to_string(value.as_int());
                break;
            case Kind::real:
                write_real(value.as_double());
                break;
            case Kind::string:
                out_ += quote(value.as_string(), options_.ensure_ascii);
                break;
            case Kind::array:
                write_items('[', ']', value.as_array(), depth,
                            [&](const Value& item) { write(item, depth + 1); });
                break;
            case Kind::object:
                write_object(value.as_object(), depth);
                break;
        }
    }

private:
    void write_real(double value) {
        if (std::isnan(value))
            out_ += "NaN";
        else if (std::isinf(value))
            out_ += value > 0 ? "Infinity" : "-Infinity";
        else
            out_ += format_double(value);
    }

    void write_object(const Object& object, int depth) {
        std::vector<const Member*> members;
        for (const Member& member : object) members.push_back(&member);
        if (options_.sort_keys) {
            std::sort(members.begin(), members.end(),
                      [](const Member* a, const Member* b) { return a->key < b->key; });
        }
        write_items('{', '}', members, depth, [&](const Member* member) {
            out_ += quote(member->key, options_.ensure_ascii);
            out_ += key_separator_;
            write(member->value, depth + 1);
        });
    }

    template <class Items, class WriteItem>
    void write_items(char open, char close, const Items& items, int depth, WriteItem write_item) {
        out_ += open;
        bool first = true;
        for (const auto& item : items) {
            if (!first) out_ += item_separator_;
            first = false;
            new_line(depth + 1);
            write_item(item);
        }
        if (!first) new_line(depth);
        out_ += close;
    }

    void new_line(int depth) {
        if (!options_.indent) return;
        out_ += '\n';
        for (int i = 0; i < depth; ++i) out_ += *options_.indent;
    }

    const DumpOptions& options_;
    std::string item_separator_;
    std::string key_separator_;
    std::string out_;
};

void append_unicode_escape(std::string& out, std::uint32_t unit) {
    constexpr char digits[] = "0123456789abcdef";
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += digits[(unit >> shift) & 15];
}

}  // namespace

void parse_members(std::string_view text, const std::function<void(std::string, Value)>& visit,
                   const ParseOptions& options) {
    Parser(text, options).members(visit);
}

Value parse(std::string_view text, const ParseOptions& options) { return Parser(text, options).document(); }

std::string dump(const Value& value, const DumpOptions& options) {
    Writer writer(options);
    writer.write(value, 0);
    return writer.take();
}

std::string quote(std::string_view text, bool ensure_ascii) {
    std::string out = "\"";
    for (std::size_t at = 0; at < text.size();) {
        const auto c = static_cast<unsigned char>(text[at]);
        if (c == '"' || c == '\\')
            (out += '\\') += text[at++];
        else if (c >= 0x20 && c < 0x7f)
            out += text[at++];
        else if (c == '\n')
            out += "\\n", ++at;
        else if (c == '\r')
            out += "\\r", ++at;
        else if (c == '\t')
            out += "\\t", ++at;
        else if (c == '\b')
            out += "\\b", ++at;
        else if (c == '\f')
            out += "\\f", ++at;
        else if (c < 0x20)
            append_unicode_escape(out, c), ++at;
        else if (!ensure_ascii)
            out += text[at++];
        else {
            const std::uint32_t code = next_code_point(text, at);
            if (code >= 0x10000) append_unicode_escape(out, 0xd7c0 + (code >> 10));
            append_unicode_escape(out, code >= 0x10000 ? 0xdc00 + (code & 0x3ff) : code);
        }
    }
    return out += '"';
}

std::string format_double(double value) {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
    char buffer[32];
    const char* end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
    const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
    const std::size_t e = text.find('e');
    std::string sign = text[0] == '-' ? "-" : "";
    std::string digits;
    for (const char c : text.substr(0, e)) {
        if (is_digit(c)) digits += c;
    }
    int exponent = 0;
    const bool plus = text[e + 1] == '+';
    std::from_chars(text.data() + e + (plus ? 2 : 1), end, exponent);
    const int n_digits = static_cast<int>(digits.size());
    if (exponent < -4 || exponent >= 16) {
        if (n_digits > 1) digits.insert(1, ".");
        const int magnitude = std::abs(exponent);
        return sign + digits + (exponent < 0 ? "e-" : "e+") + (magnitude < 10 ? "0" : "") +
               std::to_string(magnitude);
    }
    if (exponent < 0) return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
    if (n_digits <= exponent + 1)
        return sign + digits + std::string(static_cast<std::size_t>(exponent + 1 - n_digits), '0') + ".0";
    return sign + digits.insert(static_cast<std::size_t>(exponent) + 1, ".");
}

namespace {

// [+-] digits [. digits] [e [+-] digits], with digits before or after the point.
bool is_decimal(std::string_view text) {
    std::size_t at = 0;
    const auto take_any = [&](std::string_view set) {
        if (at < text.size() && set.find(text[at]) != set.npos) ++at;
    };
    const auto take_digits = [&] {
        const std::size_t start = at;
        while (at < text.size() && is_digit(text[at])) ++at;
        return at - start;
    };
    take_any("+-");
    std::size_t n_digits = take_digits();
    if (at < text.size() && text[at] == '.') {
        ++at;
        n_digits += take_digits();
    }
    if (n_digits == 0) return false;
    if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
        ++at;
        take_any("+-");
        if (take_digits() == 0) return false;
    }
    return at == text.size();
}

}  // namespace

std::optional<double> parse_double(std::string_view text) {
    if (!is_decimal(text)) return std::nullopt;
    // A stream with the classic locale: std::from_chars for doubles is missing from several libc++ in use.
    std::istringstream stream{std::string(text)};
    stream.imbue(std::locale::classic());
    double value = 0;
    stream >> value;
    // libstdc++ clamps what is too large to the largest double.
    const bool too_large = stream.fail() && std::abs(value) >= std::numeric_limits<double>::max();
    return too_large ? std::copysign(std::numeric_limits<double>::infinity(), value) : value;
}

}  // namespace edgekit::json
