# The browser SDK: built within its size budget; every variant in Node, two in a headless Chromium; the npm package in apps of bundlers and from a CDN; the demo page; `edgekit package web`.
tools/setup-wasm.sh
tools/setup-chromium.sh
tools/setup-bundlers.sh
# shellcheck source=tools/toolchains.sh
source tools/toolchains.sh
export PATH="$EDGEKIT_TOOLCHAINS/node24/node_modules/node/bin:$PATH"
# The four variants have most of the core in common.
tools/setup-trixie.sh ccache
CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_NOHASHDIR=1 runtimes/web/build.sh

[ -x .venv/bin/edgekit ] || make .venv/stamps/test
mkdir -p samples/web/public
.venv/bin/edgekit convert samples/model -o samples/web/public/sample.edge --scheme q4
npm --prefix samples/web install --no-audit --no-fund --no-package-lock --loglevel=error
npm --prefix samples/web run --silent build

node --test --test-timeout 300000 --test-reporter dot tests/web/downloads.test.mjs tests/web/node.test.mjs
node --test --test-timeout 300000 --test-reporter dot tests/web/chromium.test.mjs tests/web/gpu.test.mjs tests/web/demo.test.mjs tests/web/bundlers.test.mjs tests/web/bench.test.mjs
.venv/bin/python -m pytest -q tests/web
