// Any bytes as a compiled tokenizer: open refuses them with Error, or what it opens encodes and decodes
// without fault. Any bytes as text, through whatever tokenizer opened: encode refuses what is not UTF-8, and
// a stream of tokens decodes to what all of them decode to at once.
//
// Input: the blob, and after the bytes that its header counts, the text.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "error.h"
#include "text/tokenizer.h"
#include "text/tokenizer_layout.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace edgekit;
    text::TokenizerHeader header;
    if (size < sizeof header) return 0;
    std::memcpy(&header, data, sizeof header);
    const auto blob_size = static_cast<std::size_t>(std::min<std::uint64_t>(header.total_bytes, size));
    const std::string text(reinterpret_cast<const char*>(data + blob_size), size - blob_size);
    std::vector<std::uint64_t> storage((blob_size + 7) / 8);  // a blob is aligned
    auto* blob = reinterpret_cast<std::byte*>(storage.data());
    if (blob_size > 0) std::memcpy(blob, data, blob_size);
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
