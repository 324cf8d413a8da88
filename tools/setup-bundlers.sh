#!/usr/bin/env bash
# The bundlers that apps in the browser are built with, to test the npm package in.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

npm_install bundlers vite@8.3.8 webpack@5 webpack-cli@7 next@16 react@19 react-dom@19
say "bundlers   $EDGEKIT_TOOLCHAINS/bundlers/node_modules"
