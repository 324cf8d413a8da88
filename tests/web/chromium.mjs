// A headless Chromium, driven by playwright-core (tools/setup-chromium.sh installs both).

import { createRequire } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

const toolchains = process.env.EDGEKIT_TOOLCHAINS ?? join(homedir(), ".cache/edgekit/toolchains");
const require = createRequire(join(toolchains, "playwright/node_modules/"));

const WITHOUT_GPU = ["--disable-gpu"];
/** WebGPU on SwiftShader, which computes on the processor. */
export const SWIFTSHADER = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];

export function launch(gpu = WITHOUT_GPU) {
    const { chromium } = require("playwright-core");
    return chromium.launch({
        executablePath: process.env.EDGEKIT_CHROMIUM ?? "/usr/bin/chromium",
        args: [...gpu, "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    });
}
