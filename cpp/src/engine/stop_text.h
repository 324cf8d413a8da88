#pragma once
// Holds text back while it could still become a stop string, which may straddle tokens.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace edgekit {

class StopText {
public:
    StopText() = default;
    // Throws Error(invalid_argument) for an empty stop string or one that is not short.
    explicit StopText(std::vector<std::string> stops);
    // Takes in what a token printed; `whole`: all that it and those before it print. Returns the text that is
    // certainly before any stop string, valid until the next call; `stopped()` when one was completed.
    std::string_view push(std::string_view text, bool whole);
    // What was held back.
    std::string_view flush();
    bool stopped() const { return stopped_; }
    // How many of the last tokens are not wholly in the text that was given out.
    uint32_t tokens_held() const { return static_cast<uint32_t>(ends_.size()) + unprinted_; }

private:
    void give(size_t size);

    std::vector<std::string> stops_;
    std::string held_, out_;
    std::vector<size_t> ends_;  // where in held_ the text of each token ends that is not wholly given out
    uint32_t unprinted_ = 0;    // tokens after those, some of whose text is to come
    bool stopped_ = false;
};

}  // namespace edgekit
