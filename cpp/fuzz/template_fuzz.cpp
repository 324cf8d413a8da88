// Any bytes as a compiled chat template: it is refused, or renders, or fails with Error; within its limits
// always.
#include <cstdint>
#include <span>

#include "error.h"
#include "text/template/chat_template.h"

namespace {

const edgekit::json::Value& context() {
    static const edgekit::json::Value value = edgekit::json::parse(R"({
        "messages": [{"role": "system", "content": "Be brief."},
                     {"role": "user", "content": "Grüße, <b>世界</b> 😀\n"},
                     {"role": "assistant", "content": [{"type": "text", "text": "x"}], "reasoning": "why",
                      "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [true, null, 2.5]}}}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "int"}}}}}],
        "numbers": [3, 1, 2, -7], "words": ["b", "A", "c"], "mapping": {"b": 1, "a": [1]}, "text": " a b\tc\n",
        "bos_token": "<s>", "now": "2024-07-06T09:05:03"})");
    return value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const auto chat_template = edgekit::ChatTemplate::open(std::as_bytes(std::span(data, size)));
        chat_template.render(context(), {.max_steps = 100'000, .max_bytes = 8 << 20});
    } catch (const edgekit::Error&) {
    }
    return 0;
}
