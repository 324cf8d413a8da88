// The tokenizers of tests/golden/tokenizer: ids and text as recorded, token by token as at once, from blobs
// cut short or bent an Error and nothing worse. Runs from the root of the repository.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "error.h"
#include "format/json.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

using namespace edgekit;

int failures = 0;

void check(bool ok, const std::string& what) {
    if (ok) return;
    ++failures;
    std::printf("FAILED: %s\n", what.c_str());
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// Bytes at an address that a tokenizer accepts.
class Blob {
public:
    explicit Blob(std::string_view bytes) : storage_((bytes.size() + 7) / 8), size_(bytes.size()) {
        if (size_ > 0) std::memcpy(storage_.data(), bytes.data(), size_);
    }
    std::span<const std::byte> bytes() const {
        return {reinterpret_cast<const std::byte*>(storage_.data()), size_};
    }

private:
    std::vector<uint64_t> storage_;
    size_t size_;
};

std::vector<int32_t> ids_of(const json::Value& value) {
    std::vector<int32_t> ids;
    for (const json::Value& id : value.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
    return ids;
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, const std::string& text, bool special) {
    std::vector<int32_t> ids;
    tokenizer.encode(text, special, special, ids);
    return ids;
}

void test_cases(const std::string& name, const Tokenizer& tokenizer, const json::Value& cases) {
    for (const json::Value& item : cases.as_array()) {
        const std::string& text = item.at("text").as_string();
        const std::vector<int32_t> ids = ids_of(item.at("ids"));
        const std::string where = name + ", '" + text.substr(0, 40) + "'";
        check(encode(tokenizer, text, true) == ids, where + ": ids");
        check(encode(tokenizer, text, false) == ids_of(item.at("special_as_text")),
              where + ": special tokens as text");
        check(tokenizer.decode(ids) == item.at("decoded").as_string(), where + ": decoded");
        StreamDecoder stream(tokenizer);
        std::string streamed;
        for (int32_t id : ids) {
            const std::string_view piece = stream.push(id);
            check(text::find_invalid_utf8(piece) == piece.npos, where + ": a piece cuts a code point");
            streamed += piece;
        }
        streamed += stream.flush();
        check(streamed == item.at("decoded").as_string(), where + ": streamed");
    }
}

void test_edges(const std::string& name, const Tokenizer& tokenizer) {
    const auto size = static_cast<int32_t>(tokenizer.vocab_size());
    for (int32_t id : {-1, size, INT32_MAX, INT32_MIN}) {
        check(tokenizer.token_bytes(id).empty() && !tokenizer.is_special(id),
              name + ": an id outside the vocabulary");
        check(tokenizer.decode({&id, 1}).empty(), name + ": decoding an id outside the vocabulary");
    }
    check(tokenizer.is_special(tokenizer.token_to_id("<s>")), name + ": <s> is special");
    check(tokenizer.token_to_id("<end>") >= 0 && tokenizer.token_to_id("<nowhere>") == -1,
          name + ": token_to_id");
    for (const std::string text : {"\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80"}) {
        std::vector<int32_t> ids = {7};
        try {
            tokenizer.encode(text, true, true, ids);
            check(false, name + ": text that is not UTF-8 was accepted");
        } catch (const Error& error) {
            check(error.status() == Status::invalid_argument && ids.size() == 1,
                  name + ": wrong refusal of bad UTF-8");
        }
    }
}

/// A long word without a place to cut it: time must not grow with its square. (100 times the length in under
/// 2000 times the steps would still pass; the square would take minutes.)
void test_long_words(const std::string& name, const Tokenizer& tokenizer) {
    for (const char* unit : {"a", "ab", " ", "\xe6\x88\x91", "A", "1", "!"}) {
        std::string text;
        while (text.size() < 1000000) text += unit;
        const std::vector<int32_t> ids = encode(tokenizer, text, false);
        check(!ids.empty(), name + ": a long word");
    }
}

void test_broken_blobs(const std::string& name, const std::string& blob) {
    size_t refused = 0;
    for (size_t size = 0; size < blob.size(); size += 1 + size / 64) {
        const Blob cut(std::string_view(blob).substr(0, size));
        try {
            Tokenizer::open(cut.bytes());
            check(false, name + " cut at " + std::to_string(size) + " was accepted");
        } catch (const Error& error) {
            ++refused;
            check(error.status() == Status::invalid_file, name + ": wrong status");
        }
    }
    check(refused > 20, name + ": too few cuts were tried");
    uint64_t random = 1;
    for (int i = 0; i < 3000; ++i) {
        std::string bent = blob;
        for (int k = 0; k < 3; ++k) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            const size_t where = (random >> 33) % (k == 0 ? 600 : bent.size());
            bent[where] = static_cast<char>(random >> 56);
        }
        const Blob copy(bent);
        try {
            const Tokenizer tokenizer = Tokenizer::open(copy.bytes());
            tokenizer.decode(encode(tokenizer, "Hello wo\u0301rld <s> 123 \u6211\u4eec", true));
        } catch (const Error&) {
        }
    }
}

}  // namespace

int main() {
    for (const std::string name : {"byte_level", "byte_fallback", "unigram"}) {
        const std::string stem = "tests/golden/tokenizer/" + name;
        const std::string bytes = read_file(stem + ".edgetok");
        check(!bytes.empty(), stem + ".edgetok is missing");
        if (bytes.empty()) continue;
        const Blob blob(bytes);
        const Tokenizer tokenizer = Tokenizer::open(blob.bytes());
        test_cases(name, tokenizer, json::parse(read_file(stem + ".json")));
        test_edges(name, tokenizer);
        test_long_words(name, tokenizer);
        test_broken_blobs(name, bytes);
    }
    std::printf("%s\n", failures == 0 ? "ok" : "failed");
    return failures == 0 ? 0 : 1;
}
