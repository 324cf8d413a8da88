#pragma once
// A fixed team of threads that run one function together and meet at barriers: what a forward pass needs
// about five times a layer. Members spin briefly and then yield, so that a step costs no system call while
// the team is on its own, and nothing collapses when there are more threads than processors. Between runs the
// team sleeps.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "edgekit/edgekit.h"

namespace edgekit {

// Starts a thread that runs `body`; throws std::system_error when the system refuses.
using ThreadStarter = std::thread (*)(std::function<void()> body);
std::thread start_thread(std::function<void()> body);

class ThreadTeam {
public:
    // `parallel`, unless null, is the app's own executor; it must run all members at the same time.
    // `evenness`: the slowest processor's speed over the fastest one's.
    // Throws Error(out_of_memory) when the system refuses a thread; those it gave are gone by then.
    ThreadTeam(uint32_t n_threads, edgekit_parallel_fn parallel, void* parallel_context,
               float evenness = 1.0f, ThreadStarter start = start_thread);
    ~ThreadTeam();
    ThreadTeam(const ThreadTeam&) = delete;
    ThreadTeam& operator=(const ThreadTeam&) = delete;

    uint32_t size() const { return n_threads_; }

    // Calls work(thread) on the first `members` of the team (at most size()), and returns when all have. One
    // run at a time.
    template <class F>
    void run(uint32_t members, F&& work) {
        run_members(
            members,
            [](void* context, uint32_t thread) {
                (*static_cast<std::remove_reference_t<F>*>(context))(thread);
            },
            &work);
    }

    // Within run: returns when every member has called it. All that was written before is seen by all after.
    void barrier();

    // Within run: pieces of [0, n_units) for this thread, until none is left. Most units are dealt out
    // beforehand in equal runs (which keeps a thread on the same weights, token after token), no more than a
    // slow core does while the fastest do everything else; the rest goes to whoever comes first. Every member
    // must go through the same sequence of loops, with a barrier between any two.
    template <class F>
    void for_units(uint32_t thread, uint32_t n_units, F&& body) {
        if (members_ == 1) {
            if (n_units) body(0u, n_units);
            return;
        }
        const uint32_t dealt =
            n_units >= 8 * members_ ? static_cast<uint32_t>(float(n_units) * dealt_share_) : n_units;
        const auto first = static_cast<uint32_t>(uint64_t{dealt} * thread / members_);
        const auto last = static_cast<uint32_t>(uint64_t{dealt} * (thread + 1) / members_);
        if (first < last) body(first, last);
        if (dealt == n_units) return;
        const uint32_t piece = (n_units - dealt + 2 * members_ - 1) / (2 * members_);
        std::atomic<uint32_t>& claimed = claimed_[phase_.load(std::memory_order_relaxed) & 1];
        for (;;) {
            const uint32_t from = dealt + claimed.fetch_add(piece, std::memory_order_relaxed);
            if (from >= n_units) return;
            body(from, from + piece < n_units ? from + piece : n_units);
        }
    }

private:
    using Entry = void (*)(void*, uint32_t);
    void run_members(uint32_t members, Entry entry, void* context);
    void worker(uint32_t thread);
    void dismiss();

    const uint32_t n_threads_;
    const edgekit_parallel_fn parallel_;
    void* const parallel_context_;
    const float dealt_share_;
    uint32_t members_ = 1;  // of the run in progress
    std::atomic<uint64_t> generation_{0};
    Entry entry_ = nullptr;
    void* context_ = nullptr;
    bool stop_ = false;

    alignas(64) std::atomic<uint32_t> arrived_{0};
    alignas(64) std::atomic<uint32_t> phase_{0};  // barriers passed
    // By parity of phase_; the other one is reset at each barrier.
    alignas(64) std::atomic<uint32_t> claimed_[2] = {0, 0};

    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::thread> threads_;
};

}  // namespace edgekit
