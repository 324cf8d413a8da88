#include "threads/processors.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
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

// Of one control group, version 2 or 1: processors that it may keep busy; infinite when it is not limited.
double quota_of(const std::string& group) {
    double allowed = 0, period = 0;
    std::istringstream limit(first_line(group + "/cpu.max"));
    if (!(limit >> allowed >> period)) {  // "max" is no number
        allowed = number(first_line(group + "/cpu.cfs_quota_us")).value_or(-1);
        period = number(first_line(group + "/cpu.cfs_period_us")).value_or(0);
    }
    return allowed > 0 && period > 0 ? allowed / period : std::numeric_limits<double>::infinity();
}

// The least that the process's control groups and their ancestors allow.
double quota(const std::string& root) {
    double least = std::numeric_limits<double>::infinity();
    // "0::/path" is version 2; "4:cpu,cpuacct:/path" version 1, whose hierarchy has a folder of its own. In a
    // container the path may be one that is not shown: what is shown begins at the container's own group.
    std::ifstream groups(root + "/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == line.npos) continue;
        const std::string controllers = ',' + line.substr(first + 1, second - first - 1) + ',';
        std::string top = root + "/sys/fs/cgroup";
        if (controllers.find(",cpu,") != controllers.npos)
            top += "/cpu";
        else if (controllers != ",,")
            continue;
        for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
            least = std::min(least, quota_of(top + path));
            if (path.find('/') == path.npos) break;
        }
    }
    return least;
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
    // Rounded down: a thread more than the quota feeds is stopped now and then, and all others wait for it.
    const auto whole = static_cast<uint32_t>(std::clamp(std::floor(quota(root)), 1.0, 1e6));
    found.usable = std::min(found.usable, whole);
    found.fast_cores = std::min(found.fast_cores, whole);
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
