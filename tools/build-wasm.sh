#!/usr/bin/env bash
# Builds the core for WebAssembly: build/wasm (SIMD) and build/wasm-relaxed (relaxed SIMD), both with threads. With --test their C++
# tests run in Node. (The npm package has a build of its own in runtimes/web.)
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

case "${1:-}" in
"" | --test) ;;
*) die "unknown argument $1; usage: tools/build-wasm.sh [--test]" ;;
esac

"$EDGEKIT_ROOT/tools/setup-wasm.sh"
base=${EDGEKIT_BUILD:-$EDGEKIT_ROOT/build/wasm}
node=$EDGEKIT_TOOLCHAINS/node24/node_modules/node/bin/node

build() { # DIRECTORY ISAS FLAGS
    "$EDGEKIT_ROOT/tools/trixie" emcmake cmake -S "$EDGEKIT_ROOT" -B "$1" -G Ninja -DEDGEKIT_ISAS="$2" -DEDGEKIT_BUILD_TESTS=ON \
        -DCMAKE_CXX_FLAGS="$3 -pthread -fwasm-exceptions" -DCMAKE_CROSSCOMPILING_EMULATOR="$node" -DCMAKE_COMPILE_WARNING_AS_ERROR=ON \
        -DCMAKE_EXE_LINKER_FLAGS="-sALLOW_MEMORY_GROWTH -sPTHREAD_POOL_SIZE=8 -sPROXY_TO_PTHREAD -sEXIT_RUNTIME -sNODERAWFS -sSTACK_SIZE=1MB -Wno-pthreads-mem-growth" \
        >/dev/null
    "$EDGEKIT_ROOT/tools/trixie" cmake --build "$1" --parallel 2
}
build "$base" "scalar;wasm_simd" "-msimd128"
build "$base-relaxed" "scalar;wasm_simd;wasm_relaxed" "-msimd128 -mrelaxed-simd"

if [ "${1:-}" = --test ]; then
    for directory in "$base" "$base-relaxed"; do
        say "== tests of $(basename "$directory") in node"
        # engine_test starts and joins hundreds of threads, each a worker there: it does not end in reasonable time.
        ctest --test-dir "$directory" --output-on-failure --exclude-regex engine_test
    done
fi
