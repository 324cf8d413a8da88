// What the values of a chat template can do: attributes, items, slices, methods.
#pragma once

#include "text/template/value.h"

namespace edgekit::tmpl {

struct Arguments {
    Values positional;
    std::vector<std::pair<std::string, Value>> named;
};

// obj.name and obj[key] as jinja2 looks them up in its sandbox: undefined when there is none.
Value attribute(Heap& heap, const Value& object, std::string_view name);
Value item(Heap& heap, const Value& object, const Value& key);
// obj[start:stop:step]; what is absent is none.
Value slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step);
// item() along a path such as "function.name"; an undefined step becomes `fallback` unless that is none.
Value item_at_path(Heap& heap, const Value& object, const Value& path, const Value& fallback);

// range() of one to three integers; dict() of a mapping or pairs, and keywords.
Value make_range(const Values& bounds);
Value make_dict(Heap& heap, const Arguments& arguments);

Value call_method(Heap& heap, const Method& method, const Arguments& arguments);

}  // namespace edgekit::tmpl
