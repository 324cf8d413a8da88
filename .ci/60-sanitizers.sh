# AddressSanitizer with UndefinedBehaviorSanitizer: the C++ tests, then each fuzzer for a short while from its seeds (cpp/fuzz/seeds/<name>
# if there are any): no crash, leak, hang or great allocation. ThreadSanitizer: the tests that use threads. Kernels take minutes to compile
# with sanitizers, at -O2 many: only those that say something.
export PATH="$PWD/.venv/bin:$PATH"
# shellcheck source=tools/ccache.sh
source tools/ccache.sh
apt_install clang++-19 clang-19 libclang-rt-19-dev
build() { # DIRECTORY SANITIZERS ISAS OPTION...
    local directory=$1
    cmake -S . -B "$directory" -GNinja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 \
        -DEDGEKIT_BUILD_TESTS=ON -DEDGEKIT_SANITIZE="$2" -DEDGEKIT_ISAS="$3" "${@:4}" >/dev/null
}
isas="scalar;avx2"
if grep -q avx512_vnni /proc/cpuinfo; then isas+=";avx512vnni"; fi # elsewhere 20-test runs its arithmetic, emulated

build build/sanitize-address address,undefined "$isas" -DEDGEKIT_BUILD_FUZZERS=ON -DCMAKE_CXX_COMPILER=clang++-19
cmake --build build/sanitize-address
ctest --test-dir build/sanitize-address --output-on-failure --parallel 2

fuzz() { # NAME
    local corpus=build/sanitize-address/corpus/$1 seeds=()
    mkdir -p "$corpus"
    [ -d "cpp/fuzz/seeds/${1%_fuzz}" ] && seeds=("cpp/fuzz/seeds/${1%_fuzz}")
    echo "$1"
    "build/sanitize-address/cpp/$1" -max_total_time="${EDGEKIT_FUZZ_SECONDS:-15}" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=0 -verbosity=0 -artifact_prefix=build/sanitize-address/ "$corpus" "${seeds[@]}"
}
export -f fuzz
basename -s .cpp cpp/fuzz/*_fuzz.cpp | xargs -P 2 -I{} bash -euc 'fuzz {}'

build build/sanitize-thread thread "scalar;avx2"
cmake --build build/sanitize-thread --target engine_test threads_test
ctest --test-dir build/sanitize-thread --output-on-failure --parallel 2 --no-tests=error -R 'engine|thread'
