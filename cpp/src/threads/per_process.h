#pragma once
// What a forked child cannot use of its parent's: threads that did not come along, and locks that some of
// them may have held. A child gets its own when it first asks; the parent's copy it neither touches nor
// destroys.

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace edgekit {

template <class T>
class PerProcess {
public:
    // `make` is called now, and in each child that asks, by one thread or by several at once.
    explicit PerProcess(std::function<std::unique_ptr<T>()> make)
        : make_(std::move(make)), held_(new Held{this_process(), make_()}) {}
    ~PerProcess() {
        Held* held = held_.load(std::memory_order_acquire);
        if (held->process == this_process()) delete held;
    }
    PerProcess(const PerProcess&) = delete;
    PerProcess& operator=(const PerProcess&) = delete;

    T& get() const {
        Held* held = held_.load(std::memory_order_acquire);
        if (held->process == this_process()) return *held->value;
        auto fresh = std::make_unique<Held>(this_process(), make_());
        if (held_.compare_exchange_strong(held, fresh.get(), std::memory_order_acq_rel))
            return *fresh.release()->value;
        return *held->value;  // another thread of this process was first
    }

private:
    struct Held {
        long process;
        std::unique_ptr<T> value;
    };
    static long this_process() {
#if defined(__unix__) || defined(__APPLE__)
        return ::getpid();
#else
        return 0;
#endif
    }

    const std::function<std::unique_ptr<T>()> make_;
    mutable std::atomic<Held*> held_;
};

}  // namespace edgekit
