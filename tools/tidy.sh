#!/usr/bin/env bash
# clang-tidy over the engine, the kernels as plain C++ among it: each source once for what it and the headers it includes say. What passed is
# remembered in $EDGEKIT_TOOLCHAINS/tidy, so that a second run reads what changed alone.   tools/tidy.sh BUILD-DIRECTORY CLANG-TIDY
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"
[ $# -eq 2 ] || die "usage: tools/tidy.sh BUILD-DIRECTORY CLANG-TIDY"
cd "$EDGEKIT_ROOT"
export BUILD=$1 TIDY=$2 PASSED=$EDGEKIT_TOOLCHAINS/tidy
mkdir -p "$PASSED"

tidy() { # SOURCE
    local key source
    source=$(g++ -std=c++20 -E -Icpp/src -Icpp/include "$1") || return 1
    key=$(printf '%s\n' "$("$TIDY" --version)" "$(cat .clang-tidy)" "$source" | sha256sum)
    key=$PASSED/${key%% *}
    [ -e "$key" ] && return
    "$TIDY" --quiet -p "$BUILD" "$1" && touch "$key"
}
export -f tidy

# Tables that tools/unicode_tables.py writes are not read; kernels for other processors cannot be compiled here, nor what needs webgpu.h.
git ls-files 'cpp/src/*.cpp' 'cpp/bench/*.cpp' | grep -vE 'src/isa/(avx|neon|wasm)|src/gpu/|text/unicode_(categories|normalization)' |
    xargs -P "$(nproc)" -I{} bash -c 'tidy {}'
