# Starts to fetch what later sections build with, so that it arrives while lint and the tests run. Each set-up script waits for another
# run of itself, so a section that needs a toolchain before it is here waits for it, and says so if it cannot be had.
mkdir -p build
for target in trixie wasm jvm arm chromium bundlers swift gpu; do
    tools/setup-$target.sh || true
done >build/toolchains.log 2>&1 &
