#pragma once
// A lock that is given in the order in which it was asked for. std::mutex lets who gives it away have it
// again at once: of two sessions that generate, one could take every turn.

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace edgekit {

class Turns {
public:
    void lock() {
        std::unique_lock lock(mutex_);
        const uint64_t mine = next_++;
        called_.wait(lock, [&] { return now_ == mine; });
    }
    void unlock() {
        {
            const std::lock_guard lock(mutex_);
            ++now_;
        }
        called_.notify_all();
    }

private:
    std::mutex mutex_;
    std::condition_variable called_;
    uint64_t next_ = 0, now_ = 0;
};

}  // namespace edgekit
