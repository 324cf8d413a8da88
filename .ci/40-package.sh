# The sdist builds from itself into a wheel, and the wheel works where nothing of this checkout is.
# shellcheck source=tools/ccache.sh
source tools/ccache.sh
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
cd "$work" || exit
venv/bin/edgekit convert "$model" -o sample.edge --scheme q8
venv/bin/edgekit run sample.edge "Once upon a time" --raw -n 16 --temperature 0
