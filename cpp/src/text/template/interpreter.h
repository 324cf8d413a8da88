// Runs a compiled chat template.
#pragma once

#include "format/json.h"
#include "text/marked_text.h"
#include "text/template/program.h"

namespace edgekit::tmpl {

// What the template prints. Variables are looked up in `context`, which the caller gives, then in `package`:
// both are objects.
MarkedText interpret(const Program& program, const json::Value& context, const json::Value& package,
                     const Limits& limits);

}  // namespace edgekit::tmpl
