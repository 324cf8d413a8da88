#!/usr/bin/env bash
# Builds the npm package: dist/wasm (four variants of the engine) and dist/*.js with their types.
#   runtimes/web/build.sh [wasm|js]        one half alone; needs emscripten for wasm (tools/setup-wasm.sh), npm for js
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/toolchains.sh
source "$here/../../tools/toolchains.sh"

case "${1:-all}" in
all | wasm | js) what=${1:-all} ;;
*) die "unknown argument $1; usage: runtimes/web/build.sh [wasm|js]" ;;
esac

if [ "$what" != js ]; then
    run=()
    if ! command -v emcmake >/dev/null; then
        "$EDGEKIT_ROOT/tools/setup-wasm.sh"
        run=("$EDGEKIT_ROOT/tools/trixie")
    fi
    base=${EDGEKIT_BUILD:-$EDGEKIT_ROOT/build/web}
    for relaxed in OFF ON; do
        for threads in OFF ON; do
            directory=$base/relaxed-$relaxed-threads-$threads
            "${run[@]}" emcmake cmake -S "$here" -B "$directory" -G Ninja -DCMAKE_BUILD_TYPE=Release \
                -DEDGEKIT_WEB_RELAXED=$relaxed -DEDGEKIT_WEB_THREADS=$threads >/dev/null
            "${run[@]}" cmake --build "$directory" --parallel "${EDGEKIT_JOBS:-2}"
        done
    done
fi
if [ "$what" != wasm ]; then
    cd "$here"
    [ -d node_modules/@webgpu ] || npm install --no-audit --no-fund --loglevel=error --no-package-lock
    node_modules/.bin/tsc
    node prune_types.mjs
    cp "$EDGEKIT_ROOT/LICENSE" .
fi
if [ "$what" = all ]; then "$here/sizes.sh" "$directory"; else "$here/sizes.sh"; fi
