#!/usr/bin/env bash
# What a page downloads, gzipped, against the budget: the engine at most 600 KB, JavaScript at most 40 KB; the GPU's part of both, counted by
# its objects before they are linked, at most 150 KB.   sizes.sh [the build directory of a variant]
set -euo pipefail
[ $# = 0 ] || built=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/dist"

gzipped() { cat "$@" | gzip -9 | wc -c; }
failed=0
for wasm in wasm/*.wasm; do
    module=${wasm%.wasm}.mjs
    engine=$(gzipped "$wasm")
    script=$(gzipped ./*.js "$module")
    printf '%-24s wasm %4d KB, JavaScript %3d KB gzipped\n' "$(basename "$wasm" .wasm)" $((engine / 1000)) $((script / 1000)) >&2
    [ "$engine" -le 600000 ] && [ "$script" -le 40000 ] || failed=1
done
if [ $# = 1 ]; then
    objects=$(find "$built" -name '*.o' \( -path '*/src/gpu/*' -o -name 'wgsl.cpp.o' \))
    # shellcheck disable=SC2086
    gpu=$(gzipped $objects gpu_device.js)
    printf '%-24s %4d KB gzipped, at most\n' "of these for the GPU" $((gpu / 1000)) >&2
    [ -n "$objects" ] && [ "$gpu" -le 150000 ] || failed=1
fi
[ $failed = 0 ] || { echo "error: over the size budget: wasm 600 KB, JavaScript 40 KB, the GPU's part 150 KB" >&2; exit 1; }
