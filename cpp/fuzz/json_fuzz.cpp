// Any bytes: parse refuses them with Error or accepts them; what it accepts survives a dump and a second
// parse unchanged.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "error.h"
#include "format/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace edgekit;
    json::Value value;
    try {
        value = json::parse({reinterpret_cast<const char*>(data), size});
    } catch (const Error&) {
        return 0;
    }
    const std::string text = json::dump(value);
    if (text.find("Infinity") != text.npos)
        return 0;  // a number beyond the doubles: Python's spelling is not JSON
    if (json::dump(json::parse(text)) != text) std::abort();
    json::dump(json::parse(json::dump(value, {.ensure_ascii = true, .sort_keys = true, .indent = " "})));
    return 0;
}
