#include "threads/thread_team.h"

#include <cassert>
#include <string>
#include <system_error>
#include <utility>

#include "error.h"

#if defined(__EMSCRIPTEN_PTHREADS__)
#include <emscripten/threading.h>
#elif defined(__APPLE__)
#include <pthread/qos.h>
#endif

namespace edgekit {

namespace {

// Some 20 microseconds of spinning: longer than a phase is unbalanced, far shorter than a scheduler's
// time slice. WebAssembly has no pause.
#if defined(__EMSCRIPTEN__)
constexpr uint32_t kSpins = 15000;
#else
constexpr uint32_t kSpins = 4000;
#endif

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
}

// Gives the processor away until `phase` is likely to have changed from `seen`.
inline void rest([[maybe_unused]] std::atomic<uint32_t>& phase, [[maybe_unused]] uint32_t seen) {
#if defined(__EMSCRIPTEN_PTHREADS__)
    emscripten_futex_wait(&phase, seen, 10.0);  // milliseconds; yielding does nothing there
#else
    std::this_thread::yield();
#endif
}

inline void wake_resting([[maybe_unused]] std::atomic<uint32_t>& phase) {
#if defined(__EMSCRIPTEN_PTHREADS__)
    emscripten_futex_wake(&phase, INT32_MAX);
#endif
}

}  // namespace

std::thread start_thread(std::function<void()> body) { return std::thread(std::move(body)); }

ThreadTeam::ThreadTeam(uint32_t n_threads, edgekit_parallel_fn parallel, void* parallel_context,
                       float evenness, ThreadStarter start)
    : n_threads_(n_threads),
      parallel_(parallel),
      parallel_context_(parallel_context),
      dealt_share_(0.875f * evenness) {
    if (parallel_) return;
    threads_.reserve(n_threads_);
    try {
        for (uint32_t thread = 1; thread < n_threads_; ++thread)
            threads_.push_back(start([this, thread] { worker(thread); }));
    } catch (const std::system_error& refused) {
        const size_t next = threads_.size() + 2;  // the caller's own is the first
        dismiss();
        throw Error(Status::out_of_memory, "the system refused thread " + std::to_string(next) + " of " +
                                               std::to_string(n_threads_) + " (" + refused.what() +
                                               "): use fewer threads, or raise the limit on them");
    }
}

ThreadTeam::~ThreadTeam() { dismiss(); }

void ThreadTeam::dismiss() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
}

void ThreadTeam::run_members(uint32_t members, Entry entry, void* context) {
    assert(members >= 1 && members <= n_threads_);
    if (members == 1 || parallel_) {
        const std::lock_guard lock(mutex_);
        members_ = members;
    }
    if (members == 1) {
        entry(context, 0);
        return;
    }
    if (parallel_) {
        struct Call {
            ThreadTeam* team;
            Entry entry;
            void* context;
        } call{this, entry, context};
        parallel_(
            parallel_context_,
            [](void* arg, size_t index) {
                const auto* call = static_cast<Call*>(arg);
                call->entry(call->context, static_cast<uint32_t>(index));
                call->team->barrier();
            },
            &call, members);
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        members_ = members;
        entry_ = entry;
        context_ = context;
        generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    entry(context, 0);
    barrier();
}

void ThreadTeam::worker(uint32_t thread) {
#if defined(__APPLE__)
    // Without a class, the system may put the thread on an efficiency core, and all others wait for it.
    pthread_set_qos_class_self_np(QOS_CLASS_USER_INITIATED, 0);
#endif
    uint64_t seen = 0;
    for (;;) {
        // The next token usually follows at once: look for it a moment before going to sleep.
        for (uint32_t spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spin)
            pause();
        Entry entry;
        void* context;
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return stop_ || generation_.load(std::memory_order_relaxed) != seen; });
            if (stop_) return;
            seen = generation_.load(std::memory_order_relaxed);
            if (thread >= members_) continue;
            entry = entry_;
            context = context_;
        }
        entry(context, thread);
        barrier();
    }
}

void ThreadTeam::barrier() {
    const uint32_t members = members_;  // read before arriving: after that, the next run may begin
    if (members == 1) return;
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
        arrived_.store(0, std::memory_order_relaxed);
        claimed_[phase & 1].store(
            0, std::memory_order_relaxed);  // used in this phase; needed again in the one after next
        phase_.store(phase + 1, std::memory_order_release);
        wake_resting(phase_);
        return;
    }
    for (uint32_t spin = 0; phase_.load(std::memory_order_acquire) == phase; ++spin) {
        if (spin < kSpins)
            pause();
        else
            rest(phase_, phase);
    }
}

}  // namespace edgekit
