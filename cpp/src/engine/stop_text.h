#pragma once
// Holds text back while it could still become a stop string, which may straddle tokens.

#include <string>
#include <string_view>
#include <vector>

namespace edgekit {

class StopText {
public:
    // Throws Error(invalid_argument) for an empty stop string or one that is not short.
    void configure(std::vector<std::string> stops);
    // Text that is certainly before any stop string; `stopped()` when one was completed. Valid until the next
    // call.
    std::string_view push(std::string_view text);
    // What was held back.
    std::string_view flush();
    bool stopped() const { return stopped_; }

private:
    std::vector<std::string> stops_;
    std::string held_, out_;
    bool stopped_ = false;
};

}  // namespace edgekit
