# The C++ tests under AddressSanitizer with UndefinedBehaviorSanitizer, then those that use threads under ThreadSanitizer.
export PATH="$PWD/.venv/bin:$PATH"
build() { # SANITIZERS ISAS [TARGET...]; kernels take minutes to compile with sanitizers, at -O2 many: only those that say something
    local directory=build/sanitize-${1%%,*}
    cmake -S . -B "$directory" -GNinja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g" -DEDGEKIT_BUILD_TESTS=ON \
        -DEDGEKIT_SANITIZE="$1" -DEDGEKIT_ISAS="$2" >/dev/null
    shift 2
    cmake --build "$directory" --target "${@:-all}"
}
isas="scalar;avx2;avxvnni_emulated"
if grep -q avx512_vnni /proc/cpuinfo; then isas+=";avx512vnni"; fi
build address,undefined "$isas"
build thread "scalar;avx2" engine_test threads_test
ctest --test-dir build/sanitize-address --output-on-failure
ctest --test-dir build/sanitize-thread --output-on-failure --no-tests=error -R 'engine|thread'
