#!/usr/bin/env bash
# Compiles Metal's host against Apple's own headers, for macOS and iOS, by zig; a misspelt method has to be an error.
#   tests/apple/metal.sh PYTHON     (one that has ziglang)
set -euo pipefail
cd "$(dirname "$0")/../.."
headers=$(tools/setup-metal.sh)
zig=("$1" -m ziglang)
system=$("${zig[@]}" env | sed -n 's/.*lib_dir[^"]*"\(.*\)".*/\1/p')/libc/include/any-darwin-any
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # TARGET SOURCE
    "${zig[@]}" c++ -target "$1" -std=c++20 -Wall -Wextra -Werror -isystem "$system" -isystem "$headers" -Icpp/include -Icpp/src \
        -c "$2" -o "$work/metal_device.o"
}
for target in aarch64-macos.13.3 aarch64-ios.16.3; do compile $target cpp/src/gpu/metal_device.cpp; done
sed 's/endEncoding/endEncodin/' cpp/src/gpu/metal_device.cpp >"$work/misspelt.cpp"
if compile aarch64-macos.13.3 "$work/misspelt.cpp" 2>"$work/errors"; then
    echo "error: a misspelt method compiles" >&2
    exit 1
fi
grep -q "no member named 'endEncodin'" "$work/errors"
echo "Metal's host compiles for macOS and iOS, and a misspelt method does not"
