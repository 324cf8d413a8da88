// edgekit_bench: the engine as `edgekit bench` measures it, over edgekit.h alone, so that the same program
// runs on a device. One command a line on stdin, one line of JSON for each on stdout:
//
//   ready                             {}
//   facts                             what this device is
//   machine THREADS                   its clock, read bandwidth and dot-product peak (0: all processors)
//   state                             its temperature, battery, and power drawn from that; null where not told
//   cool CELSIUS SECONDS              waits until it is no warmer, at most so long
//   open THREADS KV POSITIONS PATH    a package, and a session with room for so many positions
//                                     (THREADS 0: chosen; KV: auto, f32, f16, int8, int4)
//   fill COUNT                        the cache holds exactly COUNT tokens
//   measure PROMPT DECODE             a prompt of PROMPT tokens after those, DECODE tokens after its first
//   stretch SECONDS DECODE            decodes for so long, DECODE tokens at a time
//   logits IDS IDS                    of the first, after the second; and the first choice after each of these
//   memory                            what this process holds, and its peak
//
// A command that fails is answered by {"error": "…"}.
//
//   printf 'open 0 int8 1024 model.edge\nfill 0\nmeasure 512 64\n' | edgekit_bench

#include <iostream>
#include <string>

#include "commands.h"

int main() {
    edgekit::bench::Bench bench;
    for (std::string line; std::getline(std::cin, line);)
        if (!line.empty()) std::cout << edgekit::bench::answer_any(bench, line) << '\n' << std::flush;
    return 0;
}
