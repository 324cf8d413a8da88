#!/usr/bin/env bash
# metal-cpp, Apple's headers of Metal for C++, of the wheel `mlx-metal`, which pip fetches on any system; and for systems without
# Apple's SDK what they ask of two other frameworks. Says where they are: for EDGEKIT_GPU_HEADERS.
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

version=0.32.4
folder=$EDGEKIT_TOOLCHAINS/metal-cpp-$version
if [ -e "$folder/Metal/Metal.hpp" ]; then
    say "found      $folder"
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download -q --no-deps --only-binary=:all: --platform macosx_14_0_arm64 -d "$work" "mlx-metal==$version" ||
        die "pip could not fetch mlx-metal $version"
    python3 - "$work" <<'PYTHON'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    wheel.extractall(work, [name for name in wheel.namelist() if "/metal_cpp/" in name])
PYTHON
    headers=$work/mlx/include/metal_cpp
    mkdir "$headers/CoreFoundation" "$headers/IOSurface"
    echo 'typedef double CFTimeInterval;' >"$headers/CoreFoundation/CoreFoundation.h"
    echo 'typedef struct __IOSurface* IOSurfaceRef;' >"$headers/IOSurface/IOSurfaceRef.h"
    rm -rf "$folder"
    mv "$headers" "$folder"
fi
echo "$folder"
