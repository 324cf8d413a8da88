# The C++ tests under AddressSanitizer with UndefinedBehaviorSanitizer, then those that use threads under ThreadSanitizer.
export PATH="$PWD/.venv/bin:$PATH"
for sanitize in address,undefined thread; do
    build=build/sanitize-${sanitize%%,*}
    cmake -S . -B "$build" -GNinja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DEDGEKIT_BUILD_TESTS=ON -DEDGEKIT_SANITIZE="$sanitize" >/dev/null
    cmake --build "$build"
done
ctest --test-dir build/sanitize-address --output-on-failure
ctest --test-dir build/sanitize-thread --output-on-failure --no-tests=error -R 'engine|thread'
