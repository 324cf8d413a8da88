# Android's Kotlin API with JUnit: on this machine's JVM with its checks of JNI on, then goldens and sessions with the library
# built for ARM, in an ARM JVM under qemu; the .aar, made by a stand-in for the NDK; the size of the library.
# shellcheck source=tools/ccache.sh
source tools/ccache.sh
export PATH="$PWD/.venv/bin:$PATH"
tools/setup-jvm.sh
tools/setup-arm.sh
JAVA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")
export JAVA_HOME
build() { # DIRECTORY OPTION...
    local directory=$1
    shift
    cmake -S . -B "$directory" "$@" -DEDGEKIT_BUILD_JNI=ON >/dev/null
    cmake --build "$directory" --target edgekit_jni --parallel 2
}
build build/native -GNinja
build build/arm-jni -GNinja -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake"  # as an app has it
tests/android/run.sh
tests/android/run.sh --arm '.*(Golden|Session)Test'
aarch64-linux-gnu-strip -o build/arm-jni/stripped.so build/arm-jni/libedgekit_jni.so
bytes=$(stat -c %s build/arm-jni/stripped.so)
echo "the library for ARM: $bytes bytes of 1500000"
[ "$bytes" -le 1500000 ]
EDGEKIT_SLOW=1 python -m pytest -q tests/android
