#include "text/template/clock.h"

#include <chrono>
#include <cstdio>
#include <ctime>

#include "text/template/value.h"

namespace edgekit::tmpl {

namespace {

constexpr const char* day_names[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                     "Thursday", "Friday", "Saturday"};
constexpr const char* month_names[] = {"January", "February", "March",     "April",   "May",      "June",
                                       "July",    "August",   "September", "October", "November", "December"};

struct Moment {
    int year, month, day, hour = 0, minute = 0, second = 0, microsecond = 0;  // month from 1
    int week_day = 0, year_day = 0;                                           // from Sunday; from 1

    void find_day() {
        using namespace std::chrono;
        const sys_days date = std::chrono::year{year} / month / day;
        week_day = static_cast<int>(weekday{date}.c_encoding());
        year_day = static_cast<int>((date - sys_days{std::chrono::year{year} / 1 / 1}).count()) + 1;
    }
};

Moment parse_moment(std::string_view text) {
    Moment moment{};
    const std::string copy(text);
    int read = 0;
    // No number overflows: widths bound them. NOLINTNEXTLINE(bugprone-unchecked-string-to-number-conversion)
    const int n = std::sscanf(copy.c_str(), "%4d-%2d-%2d%n%*1[T ]%2d:%2d:%2d%n", &moment.year, &moment.month,
                              &moment.day, &read, &moment.hour, &moment.minute, &moment.second, &read);
    const std::chrono::year_month_day date{std::chrono::year{moment.year},
                                           std::chrono::month{static_cast<unsigned>(moment.month)},
                                           std::chrono::day{static_cast<unsigned>(moment.day)}};
    const bool time_fits = moment.hour >= 0 && moment.hour < 24 && moment.minute >= 0 && moment.minute < 60 &&
                           moment.second >= 0 && moment.second < 60;
    if ((n != 3 && n != 6) || static_cast<std::size_t>(read) != copy.size() || !date.ok() || !time_fits) {
        fail("'now' must read like 2024-07-26 or 2024-07-26T12:30:00, not " +
             json::quote(text.substr(0, 40)));
    }
    moment.find_day();
    return moment;
}

Moment system_moment() {
    const auto now = std::chrono::system_clock::now();
    const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
    std::tm local{};
#ifdef _WIN32
    localtime_s(&local, &seconds);
#else
    localtime_r(&seconds, &local);
#endif
    const auto fraction = std::chrono::duration_cast<std::chrono::microseconds>(
        now - std::chrono::system_clock::from_time_t(seconds));
    Moment moment{local.tm_year + 1900,
                  local.tm_mon + 1,
                  local.tm_mday,
                  local.tm_hour,
                  local.tm_min,
                  local.tm_sec,
                  static_cast<int>(fraction.count())};
    moment.find_day();
    return moment;
}

// `pad`: the flag between '%' and the letter, or 0.
std::string number(int value, int width, char fill, char pad) {
    if (pad == '-') return std::to_string(value);
    if (pad == '_') fill = ' ';
    if (pad == '0') fill = '0';
    std::string digits = std::to_string(value);
    if (static_cast<int>(digits.size()) < width)
        digits.insert(0, static_cast<std::size_t>(width) - digits.size(), fill);
    return digits;
}

std::string directive(const Moment& now, char letter, char pad) {
    const int hour12 = now.hour % 12 == 0 ? 12 : now.hour % 12;
    const auto nested = [&](std::string_view letters) {
        std::string out;
        for (const char c : letters) {
            const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
            out += is_letter ? directive(now, c, 0) : std::string(1, c);
        }
        return out;
    };
    switch (letter) {
        case 'a':
            return std::string(day_names[now.week_day], 3);
        case 'A':
            return day_names[now.week_day];
        case 'b':
        case 'h':
            return std::string(month_names[now.month - 1], 3);
        case 'B':
            return month_names[now.month - 1];
        case 'd':
            return number(now.day, 2, '0', pad);
        case 'e':
            return number(now.day, 2, ' ', pad);
        case 'm':
            return number(now.month, 2, '0', pad);
        case 'y':
            return number(now.year % 100, 2, '0', pad);
        case 'Y':
            return number(now.year, 1, '0', pad);
        case 'H':
            return number(now.hour, 2, '0', pad);
        case 'k':
            return number(now.hour, 2, ' ', pad);
        case 'I':
            return number(hour12, 2, '0', pad);
        case 'l':
            return number(hour12, 2, ' ', pad);
        case 'M':
            return number(now.minute, 2, '0', pad);
        case 'S':
            return number(now.second, 2, '0', pad);
        case 'f':
            return number(now.microsecond, 6, '0', 0);
        case 'p':
            return now.hour < 12 ? "AM" : "PM";
        case 'P':
            return now.hour < 12 ? "am" : "pm";
        case 'j':
            return number(now.year_day, 3, '0', pad);
        case 'w':
            return std::to_string(now.week_day);
        case 'u':
            return std::to_string(now.week_day == 0 ? 7 : now.week_day);
        case 'U':
            return number((now.year_day + 6 - now.week_day) / 7, 2, '0', pad);
        case 'W':
            return number((now.year_day + 6 - (now.week_day + 6) % 7) / 7, 2, '0', pad);
        case 'c':
            return nested("a b e H:M:S Y");
        case 'D':
        case 'x':
            return nested("m/d/y");
        case 'F':
            return nested("Y-m-d");
        case 'T':
        case 'X':
            return nested("H:M:S");
        case 'R':
            return nested("H:M");
        case 'r':
            return nested("I:M:S p");
        case 'z':
        case 'Z':
            return "";  // a naive datetime has no zone
        case 'n':
            return "\n";
        case 't':
            return "\t";
        case '%':
            return "%";
        default:
            fail(std::string("strftime_now does not know '%") + letter + "'");
    }
}

}  // namespace

std::string strftime_now(std::string_view format, std::optional<std::string_view> now) {
    const Moment moment = now ? parse_moment(*now) : system_moment();
    std::string out;
    for (std::size_t at = 0; at < format.size(); ++at) {
        if (format[at] != '%' || at + 1 == format.size()) {
            out += format[at];
            continue;
        }
        ++at;
        char pad = 0;
        if (at + 1 < format.size() && (format[at] == '-' || format[at] == '_' || format[at] == '0'))
            pad = format[at++];
        out += directive(moment, format[at], pad);
    }
    return out;
}

}  // namespace edgekit::tmpl
