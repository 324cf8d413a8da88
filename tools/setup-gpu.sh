#!/usr/bin/env bash
# A Vulkan adapter to test the GPU backend on: Mesa's lavapipe, which computes on the processor.
set -euo pipefail
# shellcheck source=tools/toolchains.sh
source "$(dirname "$0")/toolchains.sh"

icd=/usr/share/vulkan/icd.d/lvp_icd.$(uname -m).json
apt_install "$icd" mesa-vulkan-drivers libvulkan1
say "lavapipe   VK_ICD_FILENAMES=$icd"
