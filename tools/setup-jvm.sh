#!/usr/bin/env bash
# The JVM side of Android: JDK 17, the Kotlin compiler, JUnit 5, Gradle (Debian's old one: it resolves, and builds no Android), and a JRE for 64-bit ARM that runs under qemu.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

apt_install javac openjdk-17-jdk-headless
apt_install /usr/share/java/junit-platform-console.jar junit5
apt_install gradle gradle
npm_install kotlin kotlin-compiler@2.4.20

# The ARM packages are unpacked into a folder of their own. apt keeps separate lists for them: this system gains no architecture.
arm_jre=$EDGEKIT_TOOLCHAINS/jre-arm64
if [ -x "$arm_jre/usr/lib/jvm/java-17-openjdk-arm64/bin/java" ]; then
    say "found      $arm_jre"
else
    say "installing openjdk-17-jre-headless:arm64 into $arm_jre"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    touch "$work/status"
    apt_arm64() {
        apt-get -q -y -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::lists="$work/lists" \
            -o Dir::State::status="$work/status" -o Dir::Cache::archives="$work/archives" -o Debug::NoLocking=1 \
            -o APT::Sandbox::User=root "$@" >"$EDGEKIT_TOOLCHAINS/apt-arm64.log" 2>&1
    }
    apt_arm64 update || say "warning: apt-get update for arm64 complained: $(tail -n 1 "$EDGEKIT_TOOLCHAINS/apt-arm64.log")"
    apt_arm64 install --download-only --no-install-recommends openjdk-17-jre-headless libstdc++6 ||
        die "the arm64 JRE cannot be downloaded: $(tail -n 3 "$EDGEKIT_TOOLCHAINS/apt-arm64.log")"
    rm -rf "$arm_jre"
    mkdir -p "$arm_jre"
    for package in "$work"/archives/*.deb; do dpkg -x "$package" "$arm_jre"; done
fi
say "java       $(java -version 2>&1 | sed -n 1p)"
say "kotlinc    $EDGEKIT_TOOLCHAINS/kotlin/node_modules/kotlin-compiler"
say "junit      /usr/share/java/junit-platform-console.jar"
say "java arm64 $arm_jre"
