# Android's Kotlin API with JUnit: on this machine's JVM with its checks of JNI on, then the library built for ARM in an ARM JVM under
# qemu; the .aar, made by a stand-in for the NDK; the size of the library.
export PATH="$PWD/.venv/bin:$PATH"
tools/setup-jvm.sh
tools/setup-arm.sh
JAVA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")
export JAVA_HOME
for target in native arm; do # the builds of the sections before
    options=()
    [ "$target" = arm ] && options=(-DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake")
    generator=()
    [ -d "build/$target" ] || generator=(-GNinja)
    cmake -S . -B "build/$target" "${generator[@]}" "${options[@]}" -DEDGEKIT_BUILD_JNI=ON >/dev/null
    cmake --build "build/$target" --target edgekit_jni --parallel 2
done
tests/android/run.sh
tests/android/run.sh --arm
aarch64-linux-gnu-strip -o build/arm/stripped.so build/arm/libedgekit_jni.so
bytes=$(stat -c %s build/arm/stripped.so)
echo "the library for ARM: $bytes bytes of 1500000"
[ "$bytes" -le 1500000 ]
EDGEKIT_SLOW=1 python -m pytest -q tests/android
