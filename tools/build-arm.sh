#!/usr/bin/env bash
# Cross-builds the core for 64-bit ARM Linux into build/arm, and with --test runs its tests under qemu as a processor that has every
# instruction; a set's kernels, and a model, as the least that has them, where a wrong instruction or run-time choice is an illegal one.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

case "${1:-}" in
"" | --test) ;;
*) die "unknown argument $1; usage: tools/build-arm.sh [--test]" ;;
esac

"$EDGEKIT_ROOT/tools/setup-arm.sh"
build=${EDGEKIT_BUILD:-$EDGEKIT_ROOT/build/arm}
cmake -S "$EDGEKIT_ROOT" -B "$build" -DCMAKE_TOOLCHAIN_FILE="$EDGEKIT_ROOT/cmake/aarch64-linux-gnu.cmake" \
    -DEDGEKIT_BUILD_TESTS=ON -DEDGEKIT_BUILD_BENCH=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=ON >/dev/null
cmake --build "$build" --parallel 2

if [ "${1:-}" = --test ]; then
    say "== the tests, on a processor that has everything"
    QEMU_CPU=max ctest --test-dir "$build" --output-on-failure --parallel 2 --exclude-regex kernels
    say "== each instruction set, on the least processor that has it"
    # shellcheck disable=SC2016 # expanded by the shell that xargs starts
    printf '%s\n' "max neon_i8mm" "cortex-a76 neon_dotprod" "cortex-a72 neon" "max scalar" |
        xargs -P 2 -L 1 sh -c 'QEMU_CPU=$1 exec qemu-aarch64-static "$0" "$2"' "$build/tests/cpp/kernels_test"
    for cpu in cortex-a76:neon_dotprod cortex-a72:neon; do
        export QEMU_CPU=${cpu%:*}
        say "== a model, on $QEMU_CPU"
        printf '%s\n' "open 0 auto 256 $EDGEKIT_ROOT/tests/golden/engine/text.edge" "fill 0" "measure 32 8" |
            qemu-aarch64-static "$build/cpp/edgekit_bench" | tee "$build/bench.json"
        grep -q "\"isa\": \"${cpu#*:}\"" "$build/bench.json" || die "$QEMU_CPU did not choose ${cpu#*:}"
        if grep '"error"' "$build/bench.json"; then exit 1; fi
    done
fi
