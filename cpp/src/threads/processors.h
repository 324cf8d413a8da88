#pragma once
// The processors this process may use, and which of them are worth a thread.

#include <cstdint>
#include <string>
#include <vector>

namespace edgekit {

struct Processors {
    // Logical processors, as affinity and the control group's quota leave them; at least 1.
    uint32_t usable = 1;
    // Cores among them, hyperthreads counted once, that do at least half the work of the best one; at
    // least 1.
    uint32_t fast_cores = 1;
    // The slowest of those cores over the fastest: (0, 1].
    float evenness = 1.0f;
};

// Of this machine, now.
Processors survey_processors();

// Of a Linux whose /sys and /proc lie under `root` and that lets this process run on `cpus`.
Processors survey_linux(const std::string& root, const std::vector<uint32_t>& cpus);

}  // namespace edgekit
