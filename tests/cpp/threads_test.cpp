// The thread team under changing numbers of members, refused threads and forks, what is found out about a
// machine's processors, and how the number of threads is chosen.

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "threads/thread_choice.h"
#include "error.h"
#include "threads/per_process.h"
#include "threads/processors.h"
#include "threads/thread_team.h"

using namespace edgekit;

namespace {

int failures = 0;
int checks = 0;

void check(bool ok, const std::string& what) {
    ++checks;
    if (!ok && ++failures < 40) std::printf("FAILED %s\n", what.c_str());
}

// Every unit of every loop is done once, by a member, and barriers order what is written.
void test_team(ThreadTeam& team, const std::string& name) {
    uint32_t state = 7;
    std::vector<uint32_t> units(1000), doubled(1000);
    for (int round = 0; round < 2000; ++round) {
        state = state * 1664525 + 1013904223;
        const uint32_t members = 1 + (state >> 16) % team.size();
        const uint32_t n = 1 + (state >> 8) % 1000;
        std::fill(units.begin(), units.end(), 0);
        std::atomic<uint32_t> most{0}, pieces{0};
        team.run(members, [&](uint32_t thread) {
            uint32_t seen = most.load();
            while (thread > seen && !most.compare_exchange_weak(seen, thread)) {
            }
            team.for_units(thread, n, [&](uint32_t first, uint32_t last) {
                pieces.fetch_add(1);
                for (uint32_t unit = first; unit < last; ++unit) units[unit] += unit + 1;
            });
            team.barrier();
            team.for_units(thread, n, [&](uint32_t first, uint32_t last) {
                for (uint32_t unit = first; unit < last; ++unit) doubled[unit] = 2 * units[n - 1 - unit];
            });
        });
        bool right = most.load() < members && pieces.load() > 0;
        for (uint32_t unit = 0; unit < n; ++unit)
            right = right && units[unit] == unit + 1 && doubled[unit] == 2 * (n - unit);
        for (uint32_t unit = n; unit < 1000; ++unit) right = right && units[unit] == 0;
        check(right, name + ", " + std::to_string(members) + " members, " + std::to_string(n) + " units");
    }
}

void own_threads(void*, void (*task)(void*, size_t), void* arg, size_t count) {
    std::vector<std::thread> threads;
    for (size_t i = 1; i < count; ++i) threads.emplace_back(task, arg, i);
    task(arg, 0);
    for (std::thread& thread : threads) thread.join();
}

// A system that gives no third thread.
std::thread one_thread_only(std::function<void()> body) {
    static int given = 0;
    if (given == 1) throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
    ++given;
    return start_thread(std::move(body));
}

void test_refused_thread() {
    try {
        const ThreadTeam team(8, nullptr, nullptr, 1.0f, one_thread_only);
        check(false, "a team without its threads");
    } catch (const Error& error) {
        const std::string message = error.what();
        check(error.status() == Status::out_of_memory, "the status of a refused thread");
        check(message.find("thread 3 of 8") != message.npos && message.find("fewer threads") != message.npos,
              message);
    }
}

// ThreadSanitizer cannot follow a child of several threads that starts new ones: it takes them for the old.
#if (defined(__unix__) || defined(__APPLE__)) && !defined(__SANITIZE_THREAD__)
// A child has none of its parent's threads: it makes its own, and leaves the parent's alone.
void test_fork() {
    auto teams = std::make_unique<PerProcess<ThreadTeam>>(
        [] { return std::make_unique<ThreadTeam>(3, nullptr, nullptr); });
    const auto members = [&] {
        std::atomic<uint32_t> ran{0};
        teams->get().run(3, [&](uint32_t) { ran.fetch_add(1); });
        return ran.load();
    };
    check(members() == 3, "the parent's team");
    for (int child = 0; child < 3; ++child) {
        const pid_t process = fork();
        if (process == 0) {
            alarm(30);  // ends a child that waits for threads it does not have
            const bool right = child == 0 || members() == 3;  // the first never uses what it inherited
            teams.reset();
            _exit(right ? 0 : 1);
        }
        int status = -1;
        waitpid(process, &status, 0);
        check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child " + std::to_string(child));
    }
    check(members() == 3, "the parent's team, afterwards");
}
#else
void test_fork() {}
#endif

// ---- processors

struct Machine {
    std::filesystem::path root;
    explicit Machine(const std::string& name)
        : root(std::filesystem::temp_directory_path() /
               ("edgekit_threads_test_" + name + std::to_string(reinterpret_cast<uintptr_t>(this)))) {
        std::filesystem::remove_all(root);
        std::filesystem::create_directories(root);
    }
    ~Machine() { std::filesystem::remove_all(root); }
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    void write(const std::string& path, const std::string& text) const {
        std::filesystem::create_directories((root / path).parent_path());
        std::ofstream(root / path) << text << '\n';
    }
    void cpu(uint32_t index, const std::string& file, const std::string& text) const {
        write("sys/devices/system/cpu/cpu" + std::to_string(index) + "/" + file, text);
    }
    Processors survey(uint32_t cpus) const {
        std::vector<uint32_t> list;
        for (uint32_t i = 0; i < cpus; ++i) list.push_back(i);
        return survey_linux(root.string(), list);
    }
};

bool is(const Processors& found, uint32_t usable, uint32_t fast, float evenness) {
    return found.usable == usable && found.fast_cores == fast && found.evenness > evenness - 0.01f &&
           found.evenness < evenness + 0.01f;
}

void test_processors() {
    check(survey_processors().usable >= 1 && survey_processors().fast_cores >= 1, "this machine");
    {
        const Machine nothing("nothing");
        check(is(nothing.survey(3), 3, 3, 1.0f), "a machine that tells nothing");
    }
    {
        const Machine phone("phone");  // four little cores, three big ones, a still bigger one
        for (uint32_t i = 0; i < 8; ++i) {
            phone.cpu(i, "cpu_capacity", i < 4 ? "250" : i < 7 ? "800" : "1024");
            phone.cpu(i, "topology/thread_siblings_list", std::to_string(i));
        }
        check(is(phone.survey(8), 8, 4, 800.0f / 1024.0f), "a phone");
        check(is(phone.survey(4), 4, 4, 1.0f), "its little cores alone");
    }
    {
        const Machine laptop("laptop");  // four cores of two threads each
        for (uint32_t i = 0; i < 8; ++i) {
            laptop.cpu(i, "cpufreq/cpuinfo_max_freq", "4000000");
            laptop.cpu(i, "topology/thread_siblings_list",
                       std::to_string(i % 4) + "," + std::to_string(i % 4 + 4));
        }
        check(is(laptop.survey(8), 8, 4, 1.0f), "hyperthreads");
    }
    {
        const Machine container("container");
        container.write("proc/self/cgroup", "0::/app");
        container.write("sys/fs/cgroup/app/cpu.max", "150000 100000");
        check(is(container.survey(64), 1, 1, 1.0f), "a quota of one and a half processors");
        container.write("sys/fs/cgroup/app/cpu.max", "250000 100000");
        check(is(container.survey(64), 2, 2, 1.0f), "a quota of two and a half");
        container.write("sys/fs/cgroup/app/cpu.max", "20000 100000");
        check(is(container.survey(64), 1, 1, 1.0f), "a quota of a fifth");
        container.write("sys/fs/cgroup/app/cpu.max", "max 100000");
        check(is(container.survey(64), 64, 64, 1.0f), "no quota");
        container.write("sys/fs/cgroup/cpu.max", "300000 100000");
        container.write("proc/self/cgroup", "0::/elsewhere");
        check(is(container.survey(64), 3, 3, 1.0f), "a group that the container does not show");
    }
    {
        const Machine nested("nested");  // systemd: the slice is limited, the service in it is not
        nested.write("proc/self/cgroup", "1:name=systemd:/x\n0::/limited.slice/app.service/worker");
        nested.write("sys/fs/cgroup/limited.slice/cpu.max", "200000 100000");
        nested.write("sys/fs/cgroup/limited.slice/app.service/cpu.max", "max 100000");
        nested.write("sys/fs/cgroup/limited.slice/app.service/worker/cpu.max", "800000 100000");
        check(is(nested.survey(16), 2, 2, 1.0f), "a quota of an ancestor");
    }
    {
        const Machine old("old");
        old.write("proc/self/cgroup", "5:cpuset:/elsewhere\n4:cpu,cpuacct:/docker/app/worker\n0::/");
        old.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000");
        old.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
        check(is(old.survey(64), 4, 4, 1.0f), "control groups of version 1");
        old.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1");
        check(is(old.survey(64), 64, 64, 1.0f), "no quota in version 1");
        old.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "nonsense");
        check(is(old.survey(64), 64, 64, 1.0f), "nonsense for a quota");
        old.write("sys/fs/cgroup/cpu/docker/app/cpu.cfs_quota_us", "550000");
        old.write("sys/fs/cgroup/cpu/docker/app/cpu.cfs_period_us", "100000");
        check(is(old.survey(64), 5, 5, 1.0f), "a group of version 1 that is not the root");
    }
}

// ---- the number of threads

// A token's time on `threads`: work that divides, memory that does not go faster than `saturated` threads
// read it, barriers, and slow cores past `fast`.
struct Pretended {
    double work, memory, barrier;
    uint32_t saturated, fast;
    double seconds(uint32_t threads) const {
        const double reading = memory / std::min(threads, saturated);
        const double computing = work / std::min(threads, fast) * (threads > fast ? 1.5 : 1.0);
        return std::max(reading, computing) + barrier * threads;
    }
};

uint32_t settled(ThreadChoice& choice, const Pretended& machine) {
    uint32_t threads = 0;
    for (int i = 0; i < 100; ++i) {
        threads = choice.for_token();
        // Now and then something else delays a token; the shortest of a few tries is not fooled.
        choice.took(threads, machine.seconds(threads) * (i % 3 == 0 ? 4.0 : 1.0));
    }
    return threads;
}

void test_choice() {
    ThreadChoice fixed(5);
    check(fixed.most() == 5 && fixed.for_prompt() == 5 && settled(fixed, {1, 1, 1, 1, 1}) == 5, "fixed");

    ThreadChoice phone(4, 8);
    check(phone.most() == 8 && phone.for_prompt() == 4, "a phone's prompts");
    check(settled(phone, {10, 30, 0.01, 3, 4}) == 3, "memory that three threads saturate");
    ThreadChoice computing(4, 8);
    check(settled(computing, {40, 10, 0.01, 2, 4}) == 4, "as many threads as there are fast cores");
    ThreadChoice hyperthreads(1, 2);
    check(settled(hyperthreads, {1, 30, 0.01, 2, 2}) == 2, "hyperthreads that read more together");
    ThreadChoice tiny(8, 8);
    check(settled(tiny, {1, 1, 0.2, 8, 8}) <= 3, "a model so small that barriers cost more than work");
    ThreadChoice one(1, 1);
    check(one.most() == 1 && settled(one, {1, 1, 1, 1, 1}) == 1, "one processor");

    // Conditions change: the next round of tries finds out.
    const Pretended cool{40, 10, 0.01, 4, 4}, hot{10, 40, 0.01, 2, 4};
    ThreadChoice changing(4, 4);
    check(settled(changing, cool) == 4, "cool");
    for (int i = 0; i < 3000; ++i) {
        const uint32_t threads = changing.for_token();
        changing.took(threads, hot.seconds(threads));
    }
    check(settled(changing, hot) == 2, "hot");
}

}  // namespace

int main() {
    ThreadTeam one(1, nullptr, nullptr), three(3, nullptr, nullptr), uneven(4, nullptr, nullptr, 0.4f);
    ThreadTeam executor(3, own_threads, nullptr);
    test_team(one, "a team of one");
    test_team(three, "a team of three");
    test_team(uneven, "a team on uneven cores");
    test_team(executor, "an app's executor");
    test_refused_thread();
    test_fork();
    test_processors();
    test_choice();
    std::printf("%d checks, %d failed\n", checks, failures);
    return failures ? 1 : 0;
}
