#!/usr/bin/env bash
# WebAssembly: emscripten in trixie, and a Node that computes relaxed dot products rightly (20 does not).
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

"$EDGEKIT_ROOT/tools/setup-trixie.sh" emscripten cmake ninja-build
npm_install node24 node@24
say "em++       tools/trixie em++ ($("$EDGEKIT_ROOT/tools/trixie" em++ -dumpversion))"
say "node       $EDGEKIT_TOOLCHAINS/node24/node_modules/node/bin/node ($("$EDGEKIT_TOOLCHAINS/node24/node_modules/node/bin/node" --version))"
