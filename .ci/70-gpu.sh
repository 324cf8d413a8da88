# The GPU backend on Mesa's lavapipe, through wgpu-native: every layout and family against the processor, and what sessions promise. No
# GPU is needed, and none is proven. Metal's kernels run as C++, and its host is compiled against Apple's headers.
# shellcheck source=tools/ccache.sh
source tools/ccache.sh
make .venv/stamps/test
export PATH="$PWD/.venv/bin:$PATH"
tools/setup-gpu.sh
VK_ICD_FILENAMES=/usr/share/vulkan/icd.d/lvp_icd.$(uname -m).json
EDGEKIT_WEBGPU=$(python -c 'from edgekit.engines import edge; print(edge.webgpu_library())')
export VK_ICD_FILENAMES EDGEKIT_WEBGPU
[ -f "$EDGEKIT_WEBGPU" ] || { echo "error: the wheel of wgpu-native is not in .venv" >&2; exit 1; }
cmake -S . -B build/gpu -GNinja -DEDGEKIT_BUILD_TESTS=ON -DEDGEKIT_GPU=webgpu -DEDGEKIT_GPU_HEADERS="$(dirname "$EDGEKIT_WEBGPU")" >/dev/null
cmake --build build/gpu --target session_test
build/gpu/tests/cpp/session_test
EDGEKIT_GPU=1 python -m pytest -q tests/python/test_gpu.py

cmake -S . -B build/metal-shim -GNinja -DEDGEKIT_BUILD_TESTS=ON -DEDGEKIT_GPU=metal_shim >/dev/null
cmake --build build/metal-shim --target session_test metal_shim_test
build/metal-shim/tests/cpp/session_test
rm -f build/metal-shim/sample.edge
edgekit convert samples/model -o build/metal-shim/sample.edge --scheme q4 --no-calibration
build/metal-shim/tests/cpp/metal_shim_test build/metal-shim/sample.edge
python -m pip install -q ziglang
tests/apple/metal.sh python
