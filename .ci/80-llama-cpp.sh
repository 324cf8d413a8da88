# What we write as GGUF, in llama.cpp itself: built from its source package, which takes minutes (half as many at -O1), so not part
# of `make test`.
[ -x .venv/bin/edgekit ] || make .venv/stamps/test
.venv/bin/python -c 'import llama_cpp' 2>/dev/null ||
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAMA_BUILD_TESTS=OFF -DMTMD_BUILD=OFF -DLLAVA_BUILD=OFF \
        -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1" .venv/bin/python -m pip install -q 'llama-cpp-python>=0.3'
.venv/bin/python -m pytest -q tests/python/test_format_gguf.py tests/python/test_source_gguf.py tests/python/test_evaluation.py
