#!/usr/bin/env bash
# Cross-builds the core for 64-bit ARM Linux into build/arm, and with --test runs its tests under qemu as three processors:
# one with everything, one with dot products alone, one with neither, so that a wrong run-time choice is an illegal instruction.
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
    for cpu in max cortex-a76 cortex-a72; do
        say "== tests on $cpu"
        QEMU_CPU=$cpu ctest --test-dir "$build" --output-on-failure
    done
fi
