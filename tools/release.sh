#!/usr/bin/env bash
# Builds what a release is of, within the size budgets, with checksums, an SBOM and notes:
#   tools/release.sh OUT [sdist] [npm] [wheels] [apple] [android]     all by default
# Each from a clean state; run twice, it makes the same bytes. `--twice` as the first argument does so and compares.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"
cd "$EDGEKIT_ROOT"

if [ "${1:-}" = --twice ]; then
    [ $# -gt 1 ] || die "usage: tools/release.sh --twice OUT [PART…]"
    out=$2
    again=$(mktemp -d)
    trap 'rm -rf "$again"' EXIT
    shift 2
    tools/release.sh "$out" "$@"
    tools/release.sh "$again/out" "$@"
    diff -r "$out" "$again/out" || die "the second build differs from the first"
    say "twice the same bytes"
    exit
fi

[ $# -gt 0 ] || die "usage: tools/release.sh [--twice] OUT [sdist] [npm] [wheels] [apple] [android]"
[ ! -e "$1" ] || die "$1 is there already; give another name"
mkdir -p "$1"
out=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- sdist npm wheels apple android
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
version=$(sed -n 's/.*EDGEKIT_VERSION "\(.*\)"/\1/p' cpp/include/edgekit/version.h)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build_sdist() {
    "$python" -m build -q --sdist --no-isolation --outdir "$out" .
    "$python" tools/release_papers.py --repack "$SOURCE_DATE_EPOCH" "$out/edgekit-$version.tar.gz"
}

build_npm() {
    [ -f runtimes/web/dist/wasm/edgekit-simd.wasm ] || runtimes/web/build.sh
    runtimes/web/build.sh js
    (cd runtimes/web && npm pack --silent --pack-destination "$out" >/dev/null)
    mv "$out/edgekit-$version.tgz" "$out/edgekit-npm-$version.tgz"
}

build_wheels() { tools/build-wheels.sh "$out"; }

# SwiftPM takes the framework by URL and checksum: Package.swift beside it is what a package of binaries has at its root.
build_apple() {
    "$python" -m edgekit package apple -o "$work/apple"
    "$python" tools/release_papers.py --zip "$work/apple/CEdgeKit.xcframework" "$out/CEdgeKit.xcframework.zip"
    local url=${EDGEKIT_RELEASES:-https://github.com/edgekit/edgekit/releases/download}/$version/CEdgeKit.xcframework.zip
    sed "s|path: \"CEdgeKit.xcframework\"|url: \"$url\", checksum: \"$(sha256sum <"$out/CEdgeKit.xcframework.zip" | cut -d' ' -f1)\"|" \
        "$work/apple/Package.swift" >"$out/Package.swift"
}

build_android() {
    "$python" -m edgekit package android -o "$work/android"
    "$python" tools/release_papers.py --zip "$work/android/maven" "$out/edgekit-android-$version-maven.zip"
    local bytes
    bytes=$(unzip -p "$work"/android/maven/io/github/edgekit/edgekit-android/*/*.aar jni/arm64-v8a/libedgekit_jni.so | wc -c)
    say "arm64-v8a  $bytes bytes of 1500000"
    [ "$bytes" -le 1500000 ] || die "the library for 64-bit ARM is over its budget"
}

for part in "$@"; do
    [ "$(type -t "build_$part")" = function ] || die "there is no part $part; there are sdist, npm, wheels, apple, android"
    say "building   $part"
    "build_$part"
done
"$python" tools/release_papers.py "$out"
cat "$out/SHA256SUMS"
