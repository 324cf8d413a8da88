#!/usr/bin/env bash
# The browser benchmark: makes the models (a few minutes, once), installs the peers (once), measures. Arguments go to bench.mjs:
#   runtimes/web/bench/run.sh [--rounds 5] [--prompt 128] [--tokens 32] [--threads 2] [--out FILE.json]
# EDGEKIT_BENCH_SMALL=1 takes a tiny shape, to see that everything runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tools/toolchains.sh
source tools/toolchains.sh
tools/setup-chromium.sh
export PATH="$EDGEKIT_TOOLCHAINS/node24/node_modules/node/bin:$PATH"

work=build/bench-web
mkdir -p $work
[ -f runtimes/web/dist/wasm/edgekit-relaxed-threads.wasm ] || runtimes/web/build.sh
.venv/bin/python runtimes/web/bench/models.py $work ${EDGEKIT_BENCH_SMALL:+--small}
[ -f $work/package.json ] || echo '{"private":true}' >$work/package.json
[ -d $work/node_modules/@wllama ] && [ -d $work/node_modules/@huggingface ] ||
    npm install --prefix $work --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error \
        @wllama/wllama@3.8.1 @huggingface/transformers@4.3.1
node runtimes/web/bench/bench.mjs "$@"
