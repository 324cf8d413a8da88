#include "engine/stop_text.h"

#include <algorithm>

#include "error.h"

namespace edgekit {

namespace {

constexpr size_t kMaxStops = 64, kMaxStopBytes = 1024;

}  // namespace

StopText::StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {
    if (stops_.size() > kMaxStops)
        throw Error(Status::invalid_argument,
                    std::to_string(stops_.size()) + " stop strings; at most 64 are allowed");
    for (const auto& stop : stops_) {
        if (stop.empty() || stop.size() > kMaxStopBytes)
            throw Error(Status::invalid_argument, "a stop string has " + std::to_string(stop.size()) +
                                                      " bytes; it must have 1 to 1024");
    }
    held_.reserve(2 * kMaxStopBytes);
    out_.reserve(2 * kMaxStopBytes);
    ends_.reserve(kMaxStopBytes);
}

std::string_view StopText::push(std::string_view text, bool whole) {
    out_.clear();
    if (stopped_) return out_;
    held_ += text;
    ++unprinted_;
    if (whole) {
        ends_.insert(ends_.end(), unprinted_, held_.size());
        unprinted_ = 0;
    }
    size_t first = std::string::npos;
    for (const auto& stop : stops_) first = std::min(first, held_.find(stop));
    if (first != std::string::npos) {
        stopped_ = true;
        give(first);
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
    give(held_.size() - keep);
    return out_;
}

std::string_view StopText::flush() {
    out_.clear();
    give(held_.size());
    return out_;
}

void StopText::give(size_t size) {
    out_.assign(held_, 0, size);
    held_.erase(0, size);
    const auto beyond = std::find_if(ends_.begin(), ends_.end(), [size](size_t end) { return end > size; });
    ends_.erase(ends_.begin(), beyond);
    for (size_t& end : ends_) end -= size;
}

}  // namespace edgekit
