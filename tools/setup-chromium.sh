#!/usr/bin/env bash
# A browser to test in: Chromium from apt, driven by playwright-core from npm (which downloads no browser of its own).
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

apt_install /usr/bin/chromium chromium
npm_install playwright playwright-core@1
say "chromium   /usr/bin/chromium ($(/usr/bin/chromium --version --no-sandbox 2>/dev/null))"
say "playwright NODE_PATH=$EDGEKIT_TOOLCHAINS/playwright/node_modules"
