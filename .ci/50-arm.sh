# shellcheck source=tools/ccache.sh
source tools/ccache.sh
tools/build-arm.sh --test

# `edgekit bench --device adb`: the real adb, a device that is not real, the program that was just built, under qemu.
[ -x .venv/bin/edgekit ] || make .venv/stamps/test
EDGEKIT_BENCH_DEVICE=$PWD/build/arm/cpp/edgekit_bench .venv/bin/python -m pytest -q tests/python/test_bench_adb.py
