// The filters and tests of jinja2. The compiler of templates has bound their arguments, so they come complete
// and by position.
#pragma once

#include <span>

#include "text/template/value.h"

namespace edgekit::tmpl {

struct Filter {
    std::string_view name;
    std::size_t n_arguments;
    Value (*apply)(Heap& heap, const Value& value, std::span<const Value> arguments);
};

struct Test {
    std::string_view name;
    std::size_t n_arguments;
    bool (*apply)(Heap& heap, const Value& value, std::span<const Value> arguments);
};

// Null when there is none of that name.
const Filter* find_filter(std::string_view name);
const Test* find_test(std::string_view name);

}  // namespace edgekit::tmpl
