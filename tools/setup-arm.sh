#!/usr/bin/env bash
# 64-bit ARM: a cross compiler, qemu to run what it makes, and adb, which takes it to Android devices.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

apt_install aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
apt_install qemu-aarch64-static qemu-user-static
apt_install adb adb
say "g++        $(aarch64-linux-gnu-g++ --version | sed -n 1p)"
say "qemu       $(qemu-aarch64-static --version | sed -n 1p)"
say "adb        $(adb version | sed -n 2p)"
