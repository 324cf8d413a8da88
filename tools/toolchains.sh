# Sourced by the set-up scripts: where toolchains live and how packages arrive. Nothing here runs by itself.
# shellcheck shell=bash

EDGEKIT_TOOLCHAINS=${EDGEKIT_TOOLCHAINS:-$HOME/.cache/edgekit/toolchains}
EDGEKIT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export EDGEKIT_TOOLCHAINS EDGEKIT_ROOT
mkdir -p "$EDGEKIT_TOOLCHAINS"

# A set-up script waits for another run of itself; what it starts does not inherit the lock.
case $(basename "$0") in
setup-*.sh)
    exec {EDGEKIT_LOCK}>"$EDGEKIT_TOOLCHAINS/$(basename "$0").lock"
    flock "$EDGEKIT_LOCK"
    ;;
esac

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# apt_install PROGRAM PACKAGE...: installs the packages unless PROGRAM (a command or an absolute path) is there.
apt_install() {
    local program=$1
    shift
    if [ -e "$program" ] || command -v "$program" >/dev/null; then
        say "found      $program"
        return
    fi
    command -v apt-get >/dev/null || die "$program is missing and there is no apt-get; install it, then run this again"
    [ "$(id -u)" = 0 ] || die "$program is missing; run as root: apt-get install $*"
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    # Lists may be absent on a bare machine or old; another set-up script may hold the lock.
    apt-get -o DPkg::Lock::Timeout=300 -q -y install --no-install-recommends "$@" >/dev/null 2>&1 && return
    apt-get -o DPkg::Lock::Timeout=300 -q update >/dev/null || say "warning: apt-get update failed; trying with the lists there are"
    apt-get -o DPkg::Lock::Timeout=300 -q -y install --no-install-recommends "$@" >"$EDGEKIT_TOOLCHAINS/apt.log" 2>&1 ||
        die "apt-get could not install $*: $(tail -n 3 "$EDGEKIT_TOOLCHAINS/apt.log")"
}

# npm_install DIRECTORY PACKAGE@VERSION...: into $EDGEKIT_TOOLCHAINS/DIRECTORY, once for these versions.
npm_install() {
    local directory=$EDGEKIT_TOOLCHAINS/$1
    shift
    if [ "$(cat "$directory/.installed" 2>/dev/null)" = "$*" ]; then
        say "found      $directory ($*)"
        return
    fi
    apt_install npm nodejs npm
    say "installing $* into $directory"
    mkdir -p "$directory"
    npm install --prefix "$directory" --no-audit --no-fund --loglevel=error "$@" >&2 || die "npm could not install $*"
    echo "$*" >"$directory/.installed"
}
