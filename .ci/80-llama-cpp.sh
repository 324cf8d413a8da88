# What we write as GGUF, in llama.cpp itself: built from its source package, which takes minutes (half as many at -O1) and is
# kept as a wheel, so not part of `make test`.
[ -x .venv/bin/edgekit ] || make .venv/stamps/test
# shellcheck source=tools/ccache.sh
source tools/ccache.sh
export PATH="$PWD/.venv/bin:$PATH"
wheels=$EDGEKIT_TOOLCHAINS/wheels/llama-cpp-python
if ! python -c 'import llama_cpp' 2>/dev/null; then
    compgen -G "$wheels/llama_cpp_python-*.whl" >/dev/null ||
        CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAMA_BUILD_TESTS=OFF -DMTMD_BUILD=OFF -DLLAVA_BUILD=OFF \
            -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1" python -m pip wheel -q --no-deps -w "$wheels" 'llama-cpp-python>=0.3'
    python -m pip install -q --find-links "$wheels" "$wheels"/llama_cpp_python-*.whl
fi
python -m pytest -q tests/python/test_format_gguf.py tests/python/test_source_gguf.py tests/python/test_evaluation.py
python -m pytest -q -k gguf tests/python/test_planted_bugs.py
