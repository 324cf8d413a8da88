# The sdist builds from itself into a wheel, and the wheel works where nothing of this checkout is: a model is converted and runs, and
# the web SDK that the wheel brought chats in a headless Chromium. Before: .ci/40-web.sh, whose build is in the wheel.
# shellcheck source=tools/ccache.sh
source tools/ccache.sh
export PATH="$EDGEKIT_TOOLCHAINS/node24/node_modules/node/bin:$PATH"
[ -f runtimes/web/dist/index.js ] || runtimes/web/build.sh
tools/setup-chromium.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CCACHE_BASEDIR=$work/source
.venv/bin/python -m pip install -q build
.venv/bin/python -m build -q --sdist --outdir "$work" .
mkdir "$work/source" && tar xzf "$work"/edgekit-*.tar.gz -C "$work/source" --strip-components=1
PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m build -q --wheel --no-isolation --outdir "$work" "$work/source"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "$work"/edgekit-*.whl
model=$PWD/samples/model
(
    cd "$work" || exit
    venv/bin/edgekit convert "$model" -o sample.edge --scheme q8
    venv/bin/edgekit run sample.edge "Once upon a time" --raw -n 16 --temperature 0
    venv/bin/edgekit package web sample.edge -o site
    # What the other targets need is said; the sources are not missing.
    if ANDROID_NDK_HOME='' venv/bin/edgekit package android -o android 2>android.txt; then exit 1; fi
    grep "ANDROID_NDK_HOME is not set" android.txt
    if venv/bin/edgekit package apple -o apple 2>apple.txt; then exit 1; fi
    grep "pip install ziglang" apple.txt
)
EDGEKIT_WEB_FOLDER=$work/site node --test --test-reporter dot tests/web/installed.test.mjs
