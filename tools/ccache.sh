# Sourced by the sections of CI that compile the core with the same flags: ccache keeps what the first of them made.
# shellcheck shell=bash
# shellcheck source=tools/toolchains.sh
source tools/toolchains.sh
apt_install ccache ccache
export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
# The same source built in another directory two levels below the root of a checkout is the same.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
