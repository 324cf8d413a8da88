# The Swift package: built and tested on Linux, its Apple branches type-checked, and the xcframework's slices looked into.
tools/setup-swift.sh
tools/setup-trixie.sh llvm-19 liblsan0
tools/trixie swift format lint --strict -r Package.swift runtimes/apple samples/apple tests/apple
tools/trixie swift build -c release -Xswiftc -enable-testing --build-tests --scratch-path build/swift
tools/trixie swift test -c release -Xswiftc -enable-testing --skip-build --scratch-path build/swift
tools/trixie env LD_PRELOAD=liblsan.so.0 LSAN_OPTIONS=suppressions=tests/apple/lsan.supp \
    build/swift/release/EdgeKitPackageTests.xctest EdgeKitTests.SoakTests
tools/trixie tests/apple/typecheck.sh

package=build/apple-package
rm -rf $package
.venv/bin/python -m pip install -q ziglang
.venv/bin/edgekit package apple tests/golden/engine/text.edge -o $package
names=build/coreml-names
rm -rf $names
.venv/bin/python -m pip download -q --no-deps --only-binary=:all: --platform macosx_10_9_universal2 --platform macosx_11_0_universal2 \
    -d $names pyobjc-framework-CoreML
EDGEKIT_APPLE_PACKAGE=$PWD/$package EDGEKIT_COREML_METADATA=$(echo "$PWD/$names"/*.whl) .venv/bin/python -m pytest -q tests/apple
tools/trixie swift package describe --package-path $package
for library in "$package"/CEdgeKit.xcframework/{ios,macos,xros}-arm64/libCEdgeKit.a; do
    for instruction in sdot smmla; do
        count=$(tools/trixie llvm-objdump-19 -d "$library" | grep -c "[[:space:]]$instruction")
        echo "$library: $count $instruction"
        [ "$count" -gt 0 ]
    done
done
