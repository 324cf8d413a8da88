// What a device is, and what it tells of itself while it is measured: heat, battery, power, memory. Read from
// /sys and /proc where the system has them; Android hides some of them from its shell and tells them by
// `dumpsys battery` instead.
#pragma once

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#if defined(__APPLE__)
#include <mach/mach.h>
#endif

#include "json.h"
#include "machine.h"

namespace edgekit::bench {

struct Battery {
    std::optional<double> temperature_c, level, milliwatts;
    std::optional<bool> charging;  // also: full, with the cable in
};

inline std::optional<std::string> line_of(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line)) return std::nullopt;
    return line;
}

inline std::optional<double> number_of(const std::string& path) {
    const auto line = line_of(path);
    if (!line) return std::nullopt;
    char* end = nullptr;
    const double value = std::strtod(line->c_str(), &end);
    if (end == line->c_str()) return std::nullopt;
    return value;
}

template <class F>
void each_in(const char* folder, F&& f) {
    std::error_code none;
    for (std::filesystem::directory_iterator at(folder, none), end; !none && at != end; at.increment(none))
        f(at->path().string());
}

// From the kernel, whose units are microamperes, microvolts and tenths of a degree.
inline Battery kernel_battery() {
    Battery found;
    each_in("/sys/class/power_supply", [&](const std::string& supply) {
        if (line_of(supply + "/type") != "Battery") {
            if (number_of(supply + "/online").value_or(0) != 0) found.charging = true;
            return;
        }
        if (const auto tenths = number_of(supply + "/temp")) found.temperature_c = *tenths / 10;
        if (const auto percent = number_of(supply + "/capacity")) found.level = *percent / 100;
        if (const auto status = line_of(supply + "/status"); status && !found.charging.value_or(false))
            found.charging = *status == "Charging" || *status == "Full";
        const auto current = number_of(supply + "/current_now"), volts = number_of(supply + "/voltage_now");
        // Makers disagree on the sign of a current that leaves the battery.
        if (current && volts) found.milliwatts = std::abs(*current) * *volts / 1e9;
    });
    return found;
}

// From Android's battery service. It tells no current.
inline void ask_service([[maybe_unused]] Battery& battery) {
#if defined(__linux__)
    // NOLINTNEXTLINE(bugprone-command-processor): a fixed command
    FILE* told = popen("dumpsys battery 2>/dev/null", "r");
    if (!told) return;
    bool powered = false, any = false;
    char line[256];
    while (std::fgets(line, sizeof line, told)) {
        const std::string text(line);
        const size_t colon = text.find(": ");
        if (colon == std::string::npos) continue;
        const std::string name =
            text.substr(text.find_first_not_of(' '), colon - text.find_first_not_of(' '));
        const std::string value = text.substr(colon + 2);
        if (name.ends_with(" powered")) any = true, powered = powered || value.starts_with("true");
        if (name == "temperature") battery.temperature_c = std::strtod(value.c_str(), nullptr) / 10;
        if (name == "level") battery.level = std::strtod(value.c_str(), nullptr) / 100;
    }
    pclose(told);
    if (any) battery.charging = powered;
#endif
}

inline Battery battery() {
    Battery found = kernel_battery();
    if (!found.temperature_c || !found.charging) ask_service(found);
    return found;
}

// Of the battery, which is what a hand feels and what settles slowly; else of the hottest sensor.
inline std::optional<double> temperature_c(const Battery& battery) {
    if (battery.temperature_c) return battery.temperature_c;
    std::optional<double> hottest;
    each_in("/sys/class/thermal", [&](const std::string& zone) {
        if (const auto thousandths = number_of(zone + "/temp"))
            hottest = std::max(hottest.value_or(-273), *thousandths / 1000);
    });
    return hottest;
}

inline std::string state() {
    const Battery now = battery();
    return Json()
        .add("temperature_c", temperature_c(now))
        .add("level", now.level)
        .add("charging", now.charging)
        .add("milliwatts", now.milliwatts)
        .text();
}

// Waits until the device is no warmer than `celsius`, for `limit` seconds at most.
inline std::string cool(double celsius, double limit) {
    const double start = machine::seconds();
    std::optional<double> now = temperature_c(battery());
    while (now && *now > celsius && machine::seconds() - start < limit) {
        std::this_thread::sleep_for(std::chrono::duration<double>(std::min(5.0, limit / 10)));
        now = temperature_c(battery());
    }
    return Json().add("temperature_c", now).add("waited_s", machine::seconds() - start).text();
}

inline std::string memory() {
    Json out;
#if defined(__APPLE__)
    task_vm_info_data_t info{};
    mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
    if (task_info(mach_task_self(), TASK_VM_INFO, reinterpret_cast<task_info_t>(&info), &count) ==
        KERN_SUCCESS)
        out.add("file_bytes", info.external)
            .add("anonymous_bytes", info.phys_footprint)
            .add("peak_bytes", static_cast<uint64_t>(info.ledger_phys_footprint_peak));
#else
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        for (const auto& [word, name] :
             {std::pair{"RssFile:", "file_bytes"}, {"RssAnon:", "anonymous_bytes"}, {"VmHWM:", "peak_bytes"}})
            if (line.starts_with(word)) out.add(name, 1024 * std::strtoull(line.c_str() + 8, nullptr, 10));
#endif
    return out.text();
}

inline std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        for (const char* key : {"model name", "Hardware"})
            if (line.starts_with(key)) return line.substr(std::min(line.size(), line.find(": ") + 2));
    return {};
}

inline std::string facts() {
    utsname system{};
    uname(&system);
    const long page = sysconf(_SC_PAGESIZE);
    const std::string processor = processor_name();
    return Json()
        .add("cpu", processor.empty() ? system.machine : processor)
        .add("architecture", system.machine)
        .add("cpus", std::thread::hardware_concurrency())
        .add("memory_bytes", static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * page)
        .add("page_bytes", page)
        .add("system", std::string(system.sysname) + " " + system.release)
        .text();
}

}  // namespace edgekit::bench
