#!/usr/bin/env bash
# A Debian trixie beside this system, for compilers that this one is too old for: setup-trixie.sh [PACKAGE...]
# Call what is in it with tools/trixie. Running it again installs what is missing and nothing else.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

root=$EDGEKIT_TOOLCHAINS/trixie
[ "$(id -u)" = 0 ] || die "a chroot needs root; run this as root"

if [ ! -e "$root/.complete" ]; then
    apt_install debootstrap debootstrap
    apt_install unshare util-linux
    # The mirror is the one this machine already uses.
    mirror=$(find /etc/apt \( -name '*.list' -o -name '*.sources' \) -exec cat {} + |
        sed -nE 's/^(URIs:|deb( \[[^]]*\])?)[[:space:]]+([^[:space:]]+).*/\3/p' | sed -nE '\#/debian/?$#p' | sed -n 1p)
    [ -n "$mirror" ] || die "no Debian mirror in /etc/apt; add one to /etc/apt/sources.list"
    say "installing Debian trixie into $root"
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$mirror" >"$EDGEKIT_TOOLCHAINS/debootstrap.log" 2>&1 ||
        die "debootstrap failed: $(tail -n 3 "$EDGEKIT_TOOLCHAINS/debootstrap.log")"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    cp /etc/apt/apt.conf.d/*prox* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
    touch "$root/.complete"
fi

missing=()
for package in "$@"; do
    # shellcheck disable=SC2016
    if [ "$(chroot "$root" dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ]; then
        say "found      $package (trixie)"
    else
        missing+=("$package")
    fi
done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]} (trixie)"
    "$EDGEKIT_ROOT/tools/trixie" sh -c 'export DEBIAN_FRONTEND=noninteractive
        apt-get -q update && apt-get -q -y install --no-install-recommends "$@" && apt-get clean' sh "${missing[@]}" \
        >"$EDGEKIT_TOOLCHAINS/trixie-apt.log" 2>&1 || die "apt-get failed: $(tail -n 3 "$EDGEKIT_TOOLCHAINS/trixie-apt.log")"
fi
