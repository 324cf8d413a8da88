#include "text/template_format.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/template_text.h"
#include "text/unicode.h"

namespace edgekit::tmpl {

namespace {

constexpr std::int64_t max_precision = 400;

// What stands between '%' or ':' and the type.
struct Spec {
    std::string fill = " ";
    char align = 0;  // < > = ^
    char sign = '-';
    bool alternate = false;
    char grouping = 0;  // , or _
    std::int64_t width = 0;
    std::int64_t precision = -1;
    char type = 0;
};

std::string to_chars(double value, std::chars_format format, std::int64_t precision) {
    std::string buffer(static_cast<std::size_t>(precision) + 400, '\0');
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format,
                                   static_cast<int>(precision))
                         .ptr;
    buffer.resize(static_cast<std::size_t>(end - buffer.data()));
    return buffer;
}

// Digits of |value|, without a sign.
std::string float_digits(double value, const Spec& spec) {
    const double magnitude = std::abs(value);
    const bool is_upper = spec.type == 'E' || spec.type == 'F' || spec.type == 'G';
    std::string out;
    if (std::isnan(magnitude) || std::isinf(magnitude)) {
        out = std::isnan(magnitude) ? "nan" : "inf";
        if (spec.type == '%') out += '%';
    } else if (spec.precision > max_precision) {
        fail("a format's precision is larger than " + std::to_string(max_precision));
    } else {
        const std::int64_t precision = spec.precision < 0 ? 6 : spec.precision;
        switch (spec.type) {
            case 'e':
            case 'E':
                out = to_chars(magnitude, std::chars_format::scientific, precision);
                break;
            case 'f':
            case 'F':
                out = to_chars(magnitude, std::chars_format::fixed, precision);
                break;
            case '%':
                out = to_chars(magnitude * 100, std::chars_format::fixed, precision) + "%";
                break;
            case 0:
                if (spec.precision < 0) {
                    out = json::format_double(magnitude);
                    break;
                }
                // As 'g', with at least one digit behind the point.
                out = to_chars(magnitude, std::chars_format::general, std::max<std::int64_t>(precision, 1));
                if (out.find_first_of(".e") == out.npos) {
                    if (static_cast<std::int64_t>(out.size()) < precision)
                        out += ".0";
                    else if (static_cast<std::int64_t>(out.size()) == precision && precision > 0) {
                        out = to_chars(magnitude, std::chars_format::scientific, precision - 1);
                        const std::size_t e = out.find('e');
                        std::string mantissa = out.substr(0, e);
                        while (mantissa.find('.') != mantissa.npos &&
                               (mantissa.back() == '0' || mantissa.back() == '.')) {
                            const bool point = mantissa.back() == '.';
                            mantissa.pop_back();
                            if (point) break;
                        }
                        out = mantissa + out.substr(e);
                    }
                }
                break;
            default:
                out = to_chars(magnitude, std::chars_format::general, std::max<std::int64_t>(precision, 1));
                break;
        }
    }
    if (is_upper)
        std::transform(out.begin(), out.end(), out.begin(),
                       [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
    return out;
}

std::string int_digits(std::int64_t value, const Spec& spec) {
    const std::uint64_t magnitude =
        value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    const int base = spec.type == 'x' || spec.type == 'X' ? 16
                     : spec.type == 'o'                   ? 8
                     : spec.type == 'b'                   ? 2
                                                          : 10;
    char buffer[72];
    std::string out(buffer, std::to_chars(buffer, buffer + sizeof buffer, magnitude, base).ptr);
    if (spec.type == 'X')
        std::transform(out.begin(), out.end(), out.begin(),
                       [](char c) { return c >= 'a' ? static_cast<char>(c - 32) : c; });
    return out;
}

std::string group_digits(const std::string& digits, char separator, std::size_t every) {
    const std::size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
    std::string out;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (separator && i > 0 && i < whole && (whole - i) % every == 0) out += separator;
        out += digits[i];
    }
    return out;
}

std::string pad(Heap& heap, const std::string& sign, const std::string& body, const Spec& spec,
                char default_align) {
    const auto size = static_cast<std::int64_t>(count_code_points(sign) + count_code_points(body));
    if (spec.width <= size) return sign + body;
    const std::int64_t n = spec.width - size;
    heap.reserve(static_cast<std::uint64_t>(n) * spec.fill.size());
    const auto fill = [&](std::int64_t times) {
        std::string out;
        for (std::int64_t i = 0; i < times; ++i) out += spec.fill;
        return out;
    };
    switch (spec.align ? spec.align : default_align) {
        case '<':
            return sign + body + fill(n);
        case '^':
            return fill(n / 2) + sign + body + fill(n - n / 2);
        case '=':
            return sign + fill(n) + body;
        default:
            return fill(n) + sign + body;
    }
}

std::string sign_of(bool negative, const Spec& spec) {
    return negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string format_number(Heap& heap, const Value& value, const Spec& spec) {
    constexpr std::string_view float_types = "eEfFgG%";
    const bool as_float = value.is_float() || (spec.type && float_types.find(spec.type) != float_types.npos);
    if (as_float) {
        const double number = *value.number();
        const std::string digits = group_digits(float_digits(number, spec), spec.grouping, 3);
        return pad(heap, sign_of(std::signbit(number) && !std::isnan(number), spec), digits, spec, '>');
    }
    const std::int64_t number = *value.integer();
    const bool decimal =
        spec.type == 0 || spec.type == 'd' || spec.type == 'i' || spec.type == 'u' || spec.type == 'n';
    std::string digits = int_digits(number, spec);
    // '%.3d': at least that many digits.
    if (spec.precision > max_precision)
        fail("a format's precision is larger than " + std::to_string(max_precision));
    if (spec.precision > static_cast<std::int64_t>(digits.size()))
        digits.insert(0, static_cast<std::size_t>(spec.precision) - digits.size(), '0');
    digits = group_digits(digits, spec.grouping, decimal ? 3 : 4);
    std::string sign = sign_of(number < 0, spec);
    if (spec.alternate && !decimal) (sign += '0') += spec.type;
    return pad(heap, sign, digits, spec, '>');
}

std::string format_string(Heap& heap, std::string_view text, const Spec& spec, char default_align) {
    if (spec.precision >= 0) text = text.substr(0, byte_of(text, static_cast<std::size_t>(spec.precision)));
    return pad(heap, "", std::string(text), spec, default_align);
}

std::int64_t read_number(std::string_view text, std::size_t& at) {
    std::int64_t number = 0;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
        number = number * 10 + (text[at] - '0');
        if (number > 1'000'000'000) fail("a number in a format is too large");
    }
    return number;
}

// ---- "%s" % x

class PercentFormatter {
public:
    PercentFormatter(Heap& heap, std::string_view format, const Value& values)
        : heap_(heap), format_(format), values_(values) {}

    std::string run() {
        std::string out;
        while (at_ < format_.size()) {
            if (format_[at_] != '%') {
                out += format_[at_++];
                continue;
            }
            ++at_;
            out += directive();
            heap_.reserve(out.size());
        }
        // Python lets anything with items stay unused, for it might have been a mapping.
        const bool has_items =
            values_.dict() || values_.sequence() || values_.range() || values_.is_undefined();
        const bool all_used =
            values_.is_tuple() ? next_ == values_.sequence()->items.size() : next_ > 0 || has_items;
        if (!all_used) fail("not all arguments converted during string formatting");
        return out;
    }

private:
    char current() const {
        if (at_ >= format_.size()) fail("incomplete format");
        return format_[at_];
    }

    Value take() {
        if (named_) return std::exchange(named_, std::nullopt).value();
        if (values_.is_tuple()) {
            const Values& items = values_.sequence()->items;
            if (next_ >= items.size()) fail("not enough arguments for format string");
            return items[next_++];
        }
        if (next_++ > 0) fail("not enough arguments for format string");
        return values_;
    }

    std::string directive() {
        if (current() == '(') {
            const std::size_t end = format_.find(')', at_);
            if (end == format_.npos) fail("incomplete format key");
            if (!values_.dict()) fail("format requires a mapping");
            const Value* found = values_.dict()->find(format_.substr(at_ + 1, end - at_ - 1));
            if (!found)
                fail("a key of the format is not in the mapping: '" +
                     std::string(format_.substr(at_ + 1, end - at_ - 1)) + "'");
            named_ = *found;
            at_ = end + 1;
        }
        Spec spec;
        bool zero = false;
        for (;; ++at_) {
            const char flag = current();
            if (flag == '-')
                spec.align = '<';
            else if (flag == '0')
                zero = true;
            else if (flag == '+')
                spec.sign = '+';
            else if (flag == ' ')
                spec.sign = spec.sign == '+' ? '+' : ' ';
            else if (flag == '#')
                spec.alternate = true;
            else
                break;
        }
        spec.width = read_size();
        if (spec.width < 0) {
            spec.align = '<';
            spec.width = -spec.width;
        }
        if (current() == '.') {
            ++at_;
            spec.precision = std::max<std::int64_t>(read_size(), 0);
        }
        while (current() == 'l' || current() == 'h' || current() == 'L') ++at_;
        spec.type = current();
        ++at_;
        if (spec.type == '%') return "%";
        const Value value = take();
        switch (spec.type) {
            case 's':
                return format_string(heap_, to_text(heap_, value), spec, '>');
            case 'r':
                return format_string(heap_, repr(heap_, value), spec, '>');
            case 'c': {
                if (value.text() && value.text()->length == 1)
                    return format_string(heap_, value.text()->bytes, spec, '>');
                const std::int64_t code = expect_int(value, "the value of '%c'");
                if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
                    fail("%c arg not in range(0x110000)");
                return format_string(heap_, encode(std::u32string(1, static_cast<char32_t>(code))), spec,
                                     '>');
            }
            case 'd':
            case 'i':
            case 'u':
            case 'o':
            case 'x':
            case 'X':
            case 'e':
            case 'E':
            case 'f':
            case 'F':
            case 'g':
            case 'G':
                break;
            default:
                fail(std::string("unsupported format character '") + spec.type + "'");
        }
        if (value.is_undefined()) fail_undefined(value);
        if (!value.number())
            fail(std::string("%") + spec.type + " format: a real number is required, not " +
                 std::string(type_name(value)));
        if (zero && spec.align == 0) {
            spec.fill = "0";
            spec.align = '=';
        }
        const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
        if (decimal && value.is_float()) {
            const double whole = std::trunc(*value.number());
            if (!(std::abs(whole) < 9.2e18)) fail("a float does not fit 64 bits");
            return format_number(heap_, static_cast<std::int64_t>(whole), spec);
        }
        if ((spec.type == 'x' || spec.type == 'X' || spec.type == 'o') && value.is_float())
            fail("an integer is required, not float");
        return format_number(heap_, value, spec);
    }

    std::int64_t read_size() {
        if (current() != '*') return read_number(format_, at_);
        ++at_;
        const std::int64_t size = expect_int(take(), "'*' in a format");
        if (std::abs(size) > 1'000'000'000) fail("a number in a format is too large");
        return size;
    }

    Heap& heap_;
    std::string_view format_;
    const Value& values_;
    std::size_t at_ = 0;
    std::size_t next_ = 0;
    std::optional<Value> named_;
};

// ---- "{}".format(x)

Spec parse_spec(std::string_view text) {
    Spec spec;
    std::size_t at = 0;
    constexpr std::string_view aligns = "<>=^";
    std::size_t second = 0;
    if (!text.empty()) next_code_point(text, second);
    if (second < text.size() && aligns.find(text[second]) != aligns.npos) {
        spec.fill = std::string(text.substr(0, second));
        spec.align = text[second];
        at = second + 1;
    } else if (!text.empty() && aligns.find(text[0]) != aligns.npos) {
        spec.align = text[at++];
    }
    const auto take = [&](char c) {
        if (at >= text.size() || text[at] != c) return false;
        ++at;
        return true;
    };
    if (take('+'))
        spec.sign = '+';
    else if (take(' '))
        spec.sign = ' ';
    else
        take('-');
    spec.alternate = take('#');
    if (take('0') && spec.align == 0) {
        spec.fill = "0";
        spec.align = '=';
    }
    spec.width = read_number(text, at);
    if (take(','))
        spec.grouping = ',';
    else if (take('_'))
        spec.grouping = '_';
    if (take('.')) {
        if (at >= text.size() || text[at] < '0' || text[at] > '9') fail("Format specifier missing precision");
        spec.precision = read_number(text, at);
    }
    if (at < text.size()) spec.type = text[at++];
    if (at != text.size()) fail("Invalid format specifier '" + std::string(text) + "'");
    return spec;
}

std::string format_value(Heap& heap, const Value& value, std::string_view spec_text) {
    if (spec_text.empty()) return to_text(heap, value);
    const Spec spec = parse_spec(spec_text);
    const bool known = spec.type == 0 || (value.text() ? spec.type == 's'
                                                       : std::string_view("bdoxXneEfFgG%").find(spec.type) !=
                                                             std::string_view::npos);
    const bool is_integer_type =
        std::string_view("bdoxX").find(spec.type) != std::string_view::npos && spec.type != 0;
    if (!known || (value.is_float() && is_integer_type)) {
        fail(std::string("Unknown format code '") + spec.type + "' for object of type '" +
             std::string(type_name(value)) + "'");
    }
    if (value.text()) {
        if (spec.align == '=') {
            if (spec.fill == "0" && spec_text[0] == '0')
                fail("'=' alignment not allowed in string format specifier");
            fail("'=' alignment not allowed in string format specifier");
        }
        return format_string(heap, value.text()->bytes, spec, '<');
    }
    if (!value.number())
        fail("unsupported format string passed to " + std::string(type_name(value)) + ".__format__");
    if (spec.grouping && spec.align == '=' && spec.width > 0)
        fail("a grouped number padded with zeros is not supported");
    if (value.integer() && !is_integer_type && spec.type == 0 && spec.precision >= 0)
        fail("Precision not allowed in integer format specifier");
    return format_number(heap, value, spec);
}

class BraceFormatter {
public:
    BraceFormatter(Heap& heap, const Arguments& arguments) : heap_(heap), arguments_(arguments) {}

    std::string run(std::string_view format, int depth) {
        if (depth > 2) fail("Max string recursion exceeded");
        std::string out;
        for (std::size_t at = 0; at < format.size();) {
            const char c = format[at];
            const bool doubled = at + 1 < format.size() && format[at + 1] == c;
            if ((c == '{' || c == '}') && doubled) {
                out += c;
                at += 2;
            } else if (c == '}') {
                fail("Single '}' encountered in format string");
            } else if (c == '{') {
                const std::size_t end = closing_brace(format, at);
                out += field(format.substr(at + 1, end - at - 1), depth);
                at = end + 1;
            } else {
                out += c;
                ++at;
            }
            heap_.reserve(out.size());
        }
        return out;
    }

private:
    static std::size_t closing_brace(std::string_view format, std::size_t open) {
        int level = 0;
        for (std::size_t at = open; at < format.size(); ++at) {
            if (format[at] == '{') ++level;
            if (format[at] == '}' && --level == 0) return at;
        }
        fail("expected '}' before end of string");
    }

    std::string field(std::string_view text, int depth) {
        std::string_view name = text, spec;
        std::size_t bracket = 0, end = 0;
        for (; end < text.size(); ++end) {
            if (text[end] == '[')
                ++bracket;
            else if (text[end] == ']' && bracket > 0)
                --bracket;
            else if (bracket == 0 && (text[end] == '!' || text[end] == ':'))
                break;
        }
        name = text.substr(0, end);
        char conversion = 0;
        if (end < text.size() && text[end] == '!') {
            if (end + 1 >= text.size()) fail("end of string while looking for conversion specifier");
            conversion = text[end + 1];
            end += 2;
            if (end < text.size() && text[end] != ':') fail("expected ':' after conversion specifier");
        }
        if (end < text.size()) spec = text.substr(end + 1);
        Value value = find(name);
        if (conversion == 's')
            value = heap_.text(to_text(heap_, value));
        else if (conversion == 'r')
            value = heap_.text(repr(heap_, value));
        else if (conversion != 0)
            fail(std::string("the conversion '!") + conversion + "' is not supported");
        return format_value(heap_, value, run(spec, depth + 1));
    }

    // "0", "name", "", each followed by .attributes and [items].
    Value find(std::string_view name) {
        const std::size_t first_end = std::min(name.find_first_of(".["), name.size());
        const std::string_view first = name.substr(0, first_end);
        Value value;
        const bool numbered = !first.empty() && std::all_of(first.begin(), first.end(),
                                                            [](char c) { return c >= '0' && c <= '9'; });
        if (first.empty() || numbered) {
            std::size_t at = 0;
            const auto index = first.empty() ? next_++ : static_cast<std::size_t>(read_number(first, at));
            (first.empty() ? automatic_ : manual_) = true;
            if (automatic_ && manual_)
                fail("cannot switch between automatic field numbering and manual field specification");
            if (index >= arguments_.positional.size())
                fail("Replacement index " + std::to_string(index) +
                     " out of range for positional args tuple");
            value = arguments_.positional[index];
        } else {
            const auto found = std::find_if(arguments_.named.begin(), arguments_.named.end(),
                                            [&](const auto& named) { return named.first == first; });
            if (found == arguments_.named.end())
                fail("a key of the format is not given: '" + std::string(first) + "'");
            value = found->second;
        }
        for (std::size_t at = first_end; at < name.size();) {
            const bool is_item = name[at] == '[';
            const std::size_t end =
                std::min(is_item ? name.find(']', at) : name.find_first_of(".[", at + 1), name.size());
            const std::string_view key = name.substr(at + 1, end - at - 1);
            if (key.empty() || (is_item && end == name.size())) fail("Empty attribute in format string");
            std::size_t digits = 0;
            const bool index =
                is_item && std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
            if (!is_item)
                value = attribute(heap_, value, key);
            else
                value = item(heap_, value,
                             index ? Value(read_number(key, digits)) : heap_.text(std::string(key)));
            at = is_item ? end + 1 : end;
        }
        return value;
    }

    Heap& heap_;
    const Arguments& arguments_;
    std::size_t next_ = 0;
    bool automatic_ = false, manual_ = false;
};

}  // namespace

Value format_percent(Heap& heap, const Text& format, const Value& values) {
    if (format.safe) fail("'%' on a text marked safe is not supported");
    heap.handle(format.bytes.size());
    return heap.text(PercentFormatter(heap, format.bytes, values).run());
}

Value format_braces(Heap& heap, const Text& format, const Arguments& arguments) {
    if (format.safe) fail("format() of a text marked safe is not supported");
    heap.handle(format.bytes.size());
    return heap.text(BraceFormatter(heap, arguments).run(format.bytes, 0));
}

double round_decimal(double value, std::int64_t digits) {
    if (!std::isfinite(value) || digits > 323) return value;
    if (digits < -308) return std::copysign(0.0, value);
    if (digits >= 0) return json::parse_double(to_chars(value, std::chars_format::fixed, digits)).value();
    // Digits before the point: round the exact integer part's decimal digits.
    const double unit = std::pow(10.0, static_cast<double>(-digits));
    const double scaled = value / unit;
    double rounded = std::nearbyint(scaled);
    return rounded * unit;
}

}  // namespace edgekit::tmpl
