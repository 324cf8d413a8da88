// Any bytes as a compiled tokenizer: open refuses them with Error, or what it opens encodes and decodes
// without fault. Any bytes as text, through whatever tokenizer opened: encode refuses what is not UTF-8, and
// a stream of tokens decodes to what all of them decode to at once.
//
// Input: u16 length of the text, the text, the blob. Seeds: tests/golden/tokenizer/*.edgetok behind two zero
// bytes.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace edgekit;
    if (size < 2) return 0;
    const std::size_t text_size = std::min<std::size_t>(data[0] | data[1] << 8, size - 2);
    const std::string text(reinterpret_cast<const char*>(data + 2), text_size);
    const std::size_t blob_size = size - 2 - text_size;
    std::vector<std::uint64_t> storage((blob_size + 7) / 8);  // a blob is aligned
    auto* blob = reinterpret_cast<std::byte*>(storage.data());
    if (blob_size > 0) std::memcpy(blob, data + 2 + text_size, blob_size);
    try {
        const Tokenizer tokenizer = Tokenizer::open({blob, blob_size});
        std::vector<std::int32_t> ids;
        tokenizer.encode(text, true, true, ids);
        tokenizer.encode("Hello, wo\u0301rld 123 \u4f60\u597d\n\n  \U0001f44d<s> it's", false, false, ids);
        for (std::size_t i = 0; i < text.size(); ++i) ids.push_back(static_cast<std::uint8_t>(text[i]));
        StreamDecoder stream(tokenizer);
        std::string streamed;
        for (std::int32_t id : ids) {
            tokenizer.token_bytes(id);
            streamed += stream.push(id);
        }
        streamed += stream.flush();
        if (streamed != tokenizer.decode(ids)) std::abort();
        tokenizer.token_to_id(text);
    } catch (const Error&) {
    }
    return 0;
}
