#!/usr/bin/env bash
# Compiles the Kotlin API with its tests and runs them with JUnit: on this JVM with -Xcheck:jni, and with --arm on an ARM
# JVM under qemu. EDGEKIT_BUILD: where libedgekit_jni is (default build/native, with --arm build/arm-jni).
#   tests/android/run.sh [--arm] [TEST-CLASS-PATTERN]
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/../../tools/toolchains.sh"
cd "$EDGEKIT_ROOT"
build=${EDGEKIT_BUILD:-$PWD/build/native}
jvm=(java -Xcheck:jni)
if [ "${1:-}" = --arm ]; then
    shift
    build=${EDGEKIT_BUILD:-$PWD/build/arm-jni}
    root=$EDGEKIT_TOOLCHAINS/jre-arm64
    # qemu runs one thread at a time well and many badly; the serial collector and one compiler keep the JVM light.
    jvm=(qemu-aarch64-static -L "$root" "$root/usr/lib/jvm/java-17-openjdk-arm64/bin/java" -XX:+UseSerialGC -XX:TieredStopAtLevel=1
        -Dedgekit.soak.cycles=300 -Dedgekit.soak.threads=1)
    export QEMU_CPU=${QEMU_CPU:-max}
fi
[ -e "$build/libedgekit_jni.so" ] || die "$build/libedgekit_jni.so is missing: build the target edgekit_jni with -DEDGEKIT_BUILD_JNI=ON"

kotlin=$EDGEKIT_TOOLCHAINS/kotlin/node_modules/kotlin-compiler/lib
runtime=$kotlin/kotlin-stdlib.jar:$kotlin/kotlinx-coroutines-core-jvm.jar
junit=$(printf '%s:' /usr/share/java/{junit-jupiter{,-api,-engine,-params},junit-platform-{console,commons,engine,launcher,reporting},opentest4j,apiguardian-api,picocli,univocity-parsers}.jar)
classes=$PWD/build/jvm
sources=runtimes/android/src/main/kotlin
sample=samples/android/app/src/main/kotlin/io/github/edgekit/sample/ChatViewModel.kt
kotlinc() { # OUTPUT CLASSPATH SOURCES OPTION...: nothing is compiled twice
    local out=$1 classpath=$2 stamp
    shift 2
    stamp=$(find "$sources" "$sample" "$1" -name '*.kt' -print0 | sort -z | xargs -0 cat | sha256sum)
    [ "$(cat "$out.stamp" 2>/dev/null)" = "$stamp" ] && return
    say "kotlinc    $out"
    rm -rf "$out"
    java -Xmx1g -cp "$kotlin/kotlin-compiler.jar:$kotlin/kotlin-reflect.jar:$kotlin/kotlin-script-runtime.jar:$runtime" \
        org.jetbrains.kotlin.cli.jvm.K2JVMCompiler -no-stdlib -no-reflect -jvm-target 11 -Werror -cp "$classpath" -d "$out" "$@"
    echo "$stamp" >"$out.stamp"
}
mkdir -p "$classes"
kotlinc "$classes/main" "$runtime" "$sources" -module-name edgekit
kotlinc "$classes/test" "$runtime:$classes/main:$junit" tests/android "$sample" -Xfriend-paths="$classes/main" -module-name edgekit_test
javac -Xlint:all,-classfile,-path -Werror --release 11 -cp "$classes/main:$runtime:$junit" -d "$classes/java" tests/android/*.java

log=$classes/run-$(basename "$build").log
"${jvm[@]}" -Xmx512m -Djava.library.path="$build" -Dedgekit.golden="$PWD/tests/golden" \
    -cp "$classes/test:$classes/java:$classes/main:$runtime:$junit" org.junit.platform.console.ConsoleLauncher \
    --disable-banner --disable-ansi-colors --details=tree --include-classname "${1:-.*Test}" \
    --scan-classpath "$classes/test:$classes/java" --fail-if-no-tests | tee "$log"
# What -Xcheck:jni finds it prints and goes on.
! grep -E '^(WARNING|FATAL ERROR) in native' "$log" || die "the JVM's checks of JNI found something"
