#include "engine/stop_text.h"

#include <algorithm>

#include "error.h"

namespace edgekit {

namespace {

constexpr size_t kMaxStops = 64, kMaxStopBytes = 1024;

}  // namespace

void StopText::configure(std::vector<std::string> stops) {
    if (stops.size() > kMaxStops)
        throw Error(Status::invalid_argument,
                    std::to_string(stops.size()) + " stop strings; at most 64 are allowed");
    for (const auto& stop : stops) {
        if (stop.empty() || stop.size() > kMaxStopBytes)
            throw Error(Status::invalid_argument, "a stop string has " + std::to_string(stop.size()) +
                                                      " bytes; it must have 1 to 1024");
    }
    stops_ = std::move(stops);
    held_.clear();
    stopped_ = false;
}

std::string_view StopText::push(std::string_view text) {
    out_.clear();
    if (stopped_) return out_;
    held_ += text;
    size_t first = std::string::npos;
    for (const auto& stop : stops_) first = std::min(first, held_.find(stop));
    if (first != std::string::npos) {
        stopped_ = true;
        out_.assign(held_, 0, first);
        held_.clear();
        return out_;
    }
    // The longest end of the text that begins a stop string.
    size_t keep = 0;
    for (const auto& stop : stops_) {
        for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
            if (std::string_view(held_).substr(held_.size() - length) ==
                std::string_view(stop).substr(0, length))
                keep = length;
        }
    }
    out_.assign(held_, 0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
    return out_;
}

std::string_view StopText::flush() {
    out_.swap(held_);
    held_.clear();
    return out_;
}

}  // namespace edgekit
