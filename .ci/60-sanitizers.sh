# The C++ tests under AddressSanitizer with UndefinedBehaviorSanitizer, then those that use threads under ThreadSanitizer.
export PATH="$PWD/.venv/bin:$PATH"
build() { # SANITIZERS [TARGET...]
    local directory=build/sanitize-${1%%,*}
    cmake -S . -B "$directory" -GNinja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DEDGEKIT_BUILD_TESTS=ON -DEDGEKIT_SANITIZE="$1" >/dev/null
    shift
    cmake --build "$directory" --target "${@:-all}"
}
build address,undefined
build thread engine_test threads_test
ctest --test-dir build/sanitize-address --output-on-failure
ctest --test-dir build/sanitize-thread --output-on-failure --no-tests=error -R 'engine|thread'
