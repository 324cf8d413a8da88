# C and C++ as an application sees them: installed, moved, found by CMake and by pkg-config, the goldens replayed with the shared
# library and with the static one, and no leak.
# shellcheck source=tools/ccache.sh
source tools/ccache.sh
export PATH="$PWD/.venv/bin:$PATH"
apt_install gcc gcc
apt_install pkg-config pkg-config
build=$PWD/build/c
cmake -S . -B build/c-core -GNinja -DCMAKE_BUILD_TYPE=Release -DEDGEKIT_SHARED=ON >/dev/null
cmake --build build/c-core --target edgekit edgekit_core
rm -rf "$build/installed" "$build/prefix"
cmake --install build/c-core --prefix "$build/installed" --strip >/dev/null
mv "$build/installed" "$build/prefix"
edgekit convert samples/model -o "$build/sample.edge" --scheme q8 --no-verify

test_with() { # NAME CMAKE-OPTION...
    local name=$1
    shift
    cmake -S tests/c -B "$build/$name" -GNinja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$build/prefix" "$@" >/dev/null
    cmake --build "$build/$name"
    ctest --test-dir "$build/$name" --output-on-failure
}
test_with shared
test_with static -DEDGEKIT_TARGET=edgekit::static -DEDGEKIT_SANITIZE=leak

for sample in c cpp; do
    cmake -S "samples/$sample" -B "$build/sample-$sample" -GNinja -DCMAKE_PREFIX_PATH="$build/prefix" >/dev/null
    cmake --build "$build/sample-$sample"
    "$build/sample-$sample/story" "$build/sample.edge" "Once upon a time" | tee "$build/story-$sample.txt"
    [ "$(wc -c <"$build/story-$sample.txt")" -gt 100 ]
done

PKG_CONFIG_PATH=$(dirname "$(find "$build/prefix" -name edgekit.pc)")
export PKG_CONFIG_PATH
libdir=$(pkg-config --variable=libdir edgekit)
# shellcheck disable=SC2046  # flags are words
cc -std=c99 -o "$build/story-shared" samples/c/story.c $(pkg-config --cflags --libs edgekit)
LD_LIBRARY_PATH=$libdir "$build/story-shared" "$build/sample.edge" "The cat" 10
# shellcheck disable=SC2046
cc -std=c99 -o "$build/story-static" samples/c/story.c $(pkg-config --static --cflags --libs edgekit | sed "s|-ledgekit|$libdir/libedgekit.a|")
"$build/story-static" "$build/sample.edge" "The cat" 10
