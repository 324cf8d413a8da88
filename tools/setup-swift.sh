#!/usr/bin/env bash
# Swift for Linux, in trixie: swift build and swift test run there.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

"$EDGEKIT_ROOT/tools/setup-trixie.sh" swiftlang
say "swift      tools/trixie swift ($("$EDGEKIT_ROOT/tools/trixie" swift --version 2>&1 | sed -n 1p))"
