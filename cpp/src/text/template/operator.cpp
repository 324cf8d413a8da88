#include "text/template/operator.h"

#include <cmath>

#include "text/template/python_text.h"

namespace edgekit::tmpl {

namespace {

std::string quoted(std::string_view name) { return "'" + std::string(name) + "'"; }

[[noreturn]] void fail_operands(std::string_view op, const Value& a, const Value& b) {
    if (a.is_undefined()) fail_undefined(a);
    if (b.is_undefined()) fail_undefined(b);
    fail("unsupported operand type(s) for " + std::string(op) + ": " + quoted(type_name(a)) + " and " +
         quoted(type_name(b)));
}

[[noreturn]] void fail_overflow() { fail("an integer does not fit 64 bits"); }

std::int64_t checked(bool overflows, std::int64_t result) {
    if (overflows) fail_overflow();
    return result;
}

Value repeat(Heap& heap, const Value& value, std::int64_t times) {
    const auto n = static_cast<std::uint64_t>(std::max<std::int64_t>(times, 0));
    if (const Text* text = value.text()) {
        if (n > 0 && text->footprint() > std::numeric_limits<std::uint64_t>::max() / n)
            fail("a text is repeated too often");
        heap.reserve(text->footprint() * n);
        MarkedText out;
        for (std::uint64_t i = 0; i < n && !text->bytes.empty(); ++i) out.append(*text);
        return heap.text(std::move(out), text->safe);
    }
    const Values& items = value.sequence()->items;
    if (n > (std::uint64_t{1} << 32)) fail("a list is repeated too often");
    heap.reserve(items.size() * sizeof(Value) * n);
    Values out;
    for (std::uint64_t i = 0; i < n && !items.empty(); ++i) out.insert(out.end(), items.begin(), items.end());
    return value.is_tuple() ? heap.tuple(std::move(out)) : heap.list(std::move(out));
}

double float_modulo(double a, double b) {
    if (b == 0) fail("float modulo");
    double rest = std::fmod(a, b);
    if (rest != 0 && (b < 0) != (rest < 0)) rest += b;
    return rest == 0 ? std::copysign(0.0, b) : rest;
}

}  // namespace

Value add(Heap& heap, const Value& a, const Value& b) {
    if (const auto x = a.integer(), y = b.integer(); x && y) {
        std::int64_t sum;
        const bool overflows = __builtin_add_overflow(*x, *y, &sum);
        return checked(overflows, sum);
    }
    if (a.number() && b.number()) return *a.number() + *b.number();
    if (const Text *x = a.text(), *y = b.text(); x && y) {
        heap.reserve(x->footprint() + y->footprint());
        const bool safe = x->safe || y->safe;
        MarkedText sum;
        for (const Text* part : {x, y}) sum.append(added(*part, safe));
        return heap.text(std::move(sum), safe);
    }
    if (a.sequence() && b.sequence() && a.is_tuple() == b.is_tuple()) {
        Values items = a.sequence()->items;
        heap.reserve((items.size() + b.sequence()->items.size()) * sizeof(Value));
        items.insert(items.end(), b.sequence()->items.begin(), b.sequence()->items.end());
        return a.is_tuple() ? heap.tuple(std::move(items)) : heap.list(std::move(items));
    }
    fail_operands("+", a, b);
}

Value subtract(Heap&, const Value& a, const Value& b) {
    if (const auto x = a.integer(), y = b.integer(); x && y) {
        std::int64_t difference;
        const bool overflows = __builtin_sub_overflow(*x, *y, &difference);
        return checked(overflows, difference);
    }
    if (a.number() && b.number()) return *a.number() - *b.number();
    fail_operands("-", a, b);
}

Value multiply(Heap& heap, const Value& a, const Value& b) {
    if (const auto x = a.integer(), y = b.integer(); x && y) {
        std::int64_t product;
        const bool overflows = __builtin_mul_overflow(*x, *y, &product);
        return checked(overflows, product);
    }
    if (a.number() && b.number()) return *a.number() * *b.number();
    if ((a.text() || a.sequence()) && b.integer()) return repeat(heap, a, *b.integer());
    if ((b.text() || b.sequence()) && a.integer()) return repeat(heap, b, *a.integer());
    fail_operands("*", a, b);
}

Value divide(Heap&, const Value& a, const Value& b) {
    if (!a.number() || !b.number()) fail_operands("/", a, b);
    if (*b.number() == 0) fail("division by zero");
    return *a.number() / *b.number();
}

Value floor_divide(Heap&, const Value& a, const Value& b) {
    if (const auto x = a.integer(), y = b.integer(); x && y) {
        if (*y == 0) fail("integer division or modulo by zero");
        if (*y == -1)
            return checked(*x == std::numeric_limits<std::int64_t>::min(),
                           *x == std::numeric_limits<std::int64_t>::min() ? 0 : -*x);
        const std::int64_t quotient = *x / *y;
        return quotient - (*x % *y != 0 && (*x < 0) != (*y < 0) ? 1 : 0);
    }
    if (!a.number() || !b.number()) fail_operands("//", a, b);
    const double x = *a.number(), y = *b.number();
    if (y == 0) fail("float floor division by zero");
    const double quotient = (x - float_modulo(x, y)) / y;
    if (quotient == 0) return std::copysign(0.0, x / y);
    const double whole = std::floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

Value modulo(Heap&, const Value& a, const Value& b) {
    if (a.text()) fail("'%' of a string, which formats it, is not supported");
    if (const auto x = a.integer(), y = b.integer(); x && y) {
        if (*y == 0) fail("integer division or modulo by zero");
        if (*y == -1) return std::int64_t{0};
        const std::int64_t rest = *x % *y;
        return rest != 0 && (rest < 0) != (*y < 0) ? rest + *y : rest;
    }
    if (!a.number() || !b.number()) fail_operands("%", a, b);
    return float_modulo(*a.number(), *b.number());
}

Value negate(Heap& heap, const Value& a) {
    if (a.integer()) return subtract(heap, std::int64_t{0}, a);
    if (const double* real = a.get<double>()) return -*real;
    if (a.is_undefined()) fail_undefined(a);
    fail("bad operand type for unary -: " + quoted(type_name(a)));
}

Value positive(Heap&, const Value& a) {
    if (a.integer()) return *a.integer();
    if (a.is_float()) return a;
    if (a.is_undefined()) fail_undefined(a);
    fail("bad operand type for unary +: " + quoted(type_name(a)));
}

}  // namespace edgekit::tmpl
