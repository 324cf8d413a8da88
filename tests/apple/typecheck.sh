#!/usr/bin/env bash
# Type-checks, on Linux, what only Apple's systems compile: the branches of runtimes/apple behind canImport, and samples/apple,
# against the stub modules beside this file. As good as the stubs: it finds a misspelt name, not a wrong one.
#   tests/apple/typecheck.sh     (swiftc on the PATH)
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for module in Darwin UIKit CryptoKit CoreML CoreAI SwiftUI UniformTypeIdentifiers; do
    swiftc -emit-module -parse-as-library -swift-version 5 -module-name "$module" -o "$work/$module.swiftmodule" \
        "tests/apple/stubs/$module.swift"
done
# -emit-sil: data races are found after type-checking.
flags=(-swift-version 6 -I "$work" -I cpp/include -I runtimes/apple/Companion/include -warnings-as-errors -Xfrontend -import-module -Xfrontend Darwin -emit-sil)
swiftc "${flags[@]}" -o "$work/EdgeKit.sil" -module-name EdgeKit -wmo -emit-module-path "$work/EdgeKit.swiftmodule" runtimes/apple/EdgeKit/*.swift
swiftc "${flags[@]}" -o "$work/Chat.sil" -module-name Chat -wmo -parse-as-library samples/apple/Chat/*.swift
printf 'module CEdgeKitBench { header "%s/samples/apple/Bench/CBench/include/CEdgeKitBench.h" export * }\n' "$PWD" >"$work/module.modulemap"
swiftc "${flags[@]}" -o "$work/EdgeKitBench.sil" -module-name EdgeKitBench -wmo -emit-module-path "$work/EdgeKitBench.swiftmodule" \
    samples/apple/Bench/Player/*.swift
swiftc "${flags[@]}" -o "$work/Bench.sil" -module-name Bench -wmo -parse-as-library samples/apple/Bench/App/*.swift
echo "the Apple branches and the sample apps type-check"
