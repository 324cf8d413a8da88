// Python's arithmetic on the values of a chat template.
#pragma once

#include "text/template/value.h"

namespace edgekit::tmpl {

Value add(Heap& heap, const Value& a, const Value& b);
Value subtract(Heap& heap, const Value& a, const Value& b);
Value multiply(Heap& heap, const Value& a, const Value& b);
Value divide(Heap& heap, const Value& a, const Value& b);
Value floor_divide(Heap& heap, const Value& a, const Value& b);
Value modulo(Heap& heap, const Value& a, const Value& b);
Value negate(Heap& heap, const Value& a);
Value positive(Heap& heap, const Value& a);

}  // namespace edgekit::tmpl
