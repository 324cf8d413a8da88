// Python's two ways to format text: `"%s" % x` and `"{}".format(x)`.
#pragma once

#include "text/template_object.h"

namespace edgekit::tmpl {

// `values`: a tuple, a dict for %(name)s, or the only value.
Value format_percent(Heap& heap, const Text& format, const Value& values);
Value format_braces(Heap& heap, const Text& format, const Arguments& arguments);
// round(value, digits) of a float: to the nearest decimal, ties to even.
double round_decimal(double value, std::int64_t digits);

}  // namespace edgekit::tmpl
