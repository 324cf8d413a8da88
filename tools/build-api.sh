#!/usr/bin/env bash
# References of the interfaces, each by its language's own tool, from the comments in the sources: docs/api/{python,c,typescript}.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"
cd "$EDGEKIT_ROOT"

out=docs/api
rm -rf "$out"
mkdir -p "$out"
python=${PYTHON:-.venv/bin/python}
"$python" -m pip install -q pdoc
"$python" -m pdoc -o "$out/python" edgekit

apt_install doxygen doxygen
doxygen - <<END
PROJECT_NAME = edgekit
INPUT = cpp/include/edgekit
OUTPUT_DIRECTORY = $out
HTML_OUTPUT = c
GENERATE_LATEX = NO
OPTIMIZE_OUTPUT_FOR_C = YES
EXTRACT_ALL = YES
MACRO_EXPANSION = YES
EXPAND_ONLY_PREDEF = YES
PREDEFINED = EDGEKIT_API= EDGEKIT_CHECKED=
HAVE_DOT = NO
QUIET = YES
WARNINGS = NO
END

npm_install typedoc typedoc@0.28 typescript@5
"$EDGEKIT_TOOLCHAINS/typedoc/node_modules/.bin/typedoc" --tsconfig runtimes/web/tsconfig.json --entryPoints runtimes/web/src/index.ts \
    --readme none --excludeInternal --excludePrivate --logLevel Error --out "$out/typescript"
for language in python c typescript; do
    [ -f "$out/$language/index.html" ] || die "there is no reference for $language"
done
say "references $out"
