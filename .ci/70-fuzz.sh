# Each fuzzer for a short while, from its committed seeds in cpp/fuzz/seeds/<name> if there are any: no crash, leak, hang or great allocation.
export PATH="$PWD/.venv/bin:$PATH"
source tools/toolchains.sh
apt_install clang++-19 clang-19 libclang-rt-19-dev
cmake -S . -B build/fuzz -GNinja -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g" -DEDGEKIT_BUILD_FUZZERS=ON -DEDGEKIT_ISAS="scalar;avx2" \
    -DEDGEKIT_SANITIZE=address,undefined >/dev/null
cmake --build build/fuzz
for source in cpp/fuzz/*_fuzz.cpp; do
    name=$(basename "$source" .cpp)
    mkdir -p "build/fuzz/corpus/$name"
    seeds=()
    [ -d "cpp/fuzz/seeds/${name%_fuzz}" ] && seeds=("cpp/fuzz/seeds/${name%_fuzz}")
    echo "$name"
    "build/fuzz/cpp/$name" -max_total_time="${EDGEKIT_FUZZ_SECONDS:-20}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
        -artifact_prefix=build/fuzz/ "build/fuzz/corpus/$name" "${seeds[@]}"
done
