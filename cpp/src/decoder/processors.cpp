#include "decoder/processors.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#if defined(__linux__) && !defined(__EMSCRIPTEN__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace edgekit {

namespace {

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::optional<double> number(const std::string& text) {
    double value = 0;
    std::istringstream in(text);
    if (in >> value) return value;
    return std::nullopt;
}

// A processor's share of work, in whatever unit the machine tells: its scheduler's capacity (ARM), or its
// highest clock.
double capacity(const std::string& cpu) {
    for (const char* file : {"/cpu_capacity", "/cpufreq/cpuinfo_max_freq"})
        if (const auto value = number(first_line(cpu + file)); value && *value > 0) return *value;
    return 1;
}

// Processors that the group may keep busy, in whole ones, rounded up; nothing when it is not limited.
std::optional<double> quota(const std::string& root) {
    // "0::/path" (version 2); in a container the path is often that of the root.
    std::string group;
    std::ifstream groups(root + "/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);)
        if (line.rfind("0::", 0) == 0) group = line.substr(3);
    for (const std::string& place : {group, std::string()}) {
        std::istringstream limit(first_line(root + "/sys/fs/cgroup" + place + "/cpu.max"));
        double allowed = 0, period = 0;
        if (limit >> allowed >> period && period > 0) return allowed / period;  // "max" is no number
    }
    const auto allowed = number(first_line(root + "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"));
    const auto period = number(first_line(root + "/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
    if (allowed && period && *allowed > 0 && *period > 0) return *allowed / *period;
    return std::nullopt;
}

}  // namespace

Processors survey_linux(const std::string& root, const std::vector<uint32_t>& cpus) {
    std::set<std::string> cores;  // by the list of their hyperthreads
    std::vector<double> capacities;
    for (const uint32_t cpu : cpus) {
        const std::string path = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
        const std::string siblings = first_line(path + "/topology/thread_siblings_list");
        if (cores.insert(siblings.empty() ? std::to_string(cpu) : siblings).second)
            capacities.push_back(capacity(path));
    }
    Processors found;
    found.usable = std::max<uint32_t>(1, static_cast<uint32_t>(cpus.size()));
    if (!capacities.empty()) {
        std::sort(capacities.rbegin(), capacities.rend());
        const auto slow = std::find_if(capacities.begin(), capacities.end(),
                                       [&](double value) { return value < capacities.front() / 2; });
        found.fast_cores = static_cast<uint32_t>(slow - capacities.begin());
        found.evenness = static_cast<float>(*(slow - 1) / capacities.front());
    }
    if (const auto limit = quota(root)) {
        const auto whole = static_cast<uint32_t>(std::clamp(std::ceil(*limit), 1.0, 1e6));
        found.usable = std::min(found.usable, whole);
        found.fast_cores = std::min(found.fast_cores, whole);
    }
    return found;
}

Processors survey_processors() {
#if defined(__linux__) && !defined(__EMSCRIPTEN__)
    cpu_set_t set;
    std::vector<uint32_t> cpus;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
            if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    if (!cpus.empty()) return survey_linux("", cpus);
#endif
    Processors found;
    found.usable = std::max(1u, std::thread::hardware_concurrency());
    found.fast_cores = found.usable;
#if defined(__APPLE__)
    // Level 0 are the performance cores; the efficiency cores do less than half their work.
    int32_t cores = 0;
    size_t size = sizeof cores;
    if (sysctlbyname("hw.perflevel0.physicalcpu", &cores, &size, nullptr, 0) == 0 && cores > 0)
        found.fast_cores = static_cast<uint32_t>(cores);
#endif
    return found;
}

}  // namespace edgekit
