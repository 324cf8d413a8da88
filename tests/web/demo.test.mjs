// The demo page, built by vite (samples/web: npm run build, with public/sample.edge), in a headless Chromium.
// EDGEKIT_SCREENSHOTS=folder keeps what it looked like.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { launch, SWIFTSHADER } from "./chromium.mjs";
import { serve } from "./server.mjs";

const DIST = "/samples/web/dist/";
const sample = fileURLToPath(new URL(`../..${DIST}sample.edge`, import.meta.url));
const skip = existsSync(sample) ? false : "samples/web/dist/sample.edge is missing: convert samples/model to samples/web/public/sample.edge, npm run build";

let browser;
before(async () => {
    if (!skip) browser = await launch();
});
after(() => browser?.close());

async function withDemo(isolated, use, of = browser) {
    const server = await serve({ isolated });
    const context = await of.newContext({ viewport: { width: 900, height: 760 } });
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    const screenshot = async (name) => {
        const folder = process.env.EDGEKIT_SCREENSHOTS;
        if (folder) await page.screenshot({ path: join(folder, `${name}.png`) });
    };
    try {
        await page.goto(server.url + DIST);
        await use(page, screenshot, server);
        assert.deepEqual(errors, []);
    } finally {
        await context.close();
        server.close();
    }
}

async function ask(page, text) {
    await page.fill("#prompt", text);
    await page.press("#prompt", "Enter");
    await page.waitForSelector("#stop", { state: "visible" });
}

test("a picked file chats, on threads; stop stops; a new chat is empty", { skip }, () =>
    withDemo(true, async (page, screenshot) => {
        await page.waitForSelector("#sample", { state: "visible" });
        await screenshot("start");
        await page.setInputFiles("#file", sample);
        await page.waitForSelector("#chat", { state: "visible" });
        assert.match(await page.textContent("#messages"), /threads/);
        await ask(page, "Tell me a story about a dog who found a red ball.");
        await page.waitForSelector("#send", { state: "visible" });
        assert.match(await page.textContent("#speed"), /\d+ tokens · [\d.]+ tokens\/s/);
        assert.ok((await page.textContent(".assistant")).length > 20);
        await ask(page, "Tell me a long story about the sea.");
        await page.waitForFunction(() => document.querySelectorAll(".assistant")[1]?.textContent.length > 15);
        await screenshot("chat");
        await page.click("#stop");
        await page.waitForSelector("#send", { state: "visible" });
        await page.click("#fresh");
        assert.equal(await page.locator(".message").count(), 0);
    }),
);

test("from an address, without isolation: kept for the next visit", { skip }, () =>
    withDemo(false, async (page, screenshot, server) => {
        await page.click("#sample");
        await page.waitForSelector("#chat", { state: "visible" });
        assert.match(await page.textContent("#messages"), /not cross-origin isolated/);
        await page.reload();
        await page.waitForSelector("#kept li", { state: "visible" });
        await screenshot("kept");
        server.requests.length = 0;
        await page.click("#kept button");
        await page.waitForSelector("#chat", { state: "visible" });
        const asked = server.requests.filter(({ path, headers }) => path.endsWith("sample.edge") && !headers["if-none-match"]);
        assert.deepEqual(asked, []);
        await ask(page, "Hello!");
        await page.waitForSelector("#send", { state: "visible" });
    }),
);

test("on the graphics processor: it chats, and the page says where it computes", { skip }, async () => {
    const withGpu = await launch(SWIFTSHADER);
    try {
        await withDemo(
            true,
            async (page, screenshot) => {
                await page.selectOption("#backend", "gpu");
                await page.setInputFiles("#file", sample);
                await page.waitForSelector("#chat", { state: "visible" });
                assert.match(await page.textContent("#messages"), /on the graphics processor \(WebGPU\)/);
                await ask(page, "Tell me a story about a dog who found a red ball.");
                await page.waitForFunction(() => document.querySelector(".assistant").textContent.length > 60, null, { timeout: 120_000 });
                await screenshot("chat-gpu");
            },
            withGpu,
        );
    } finally {
        await withGpu.close();
    }
});

test("a file that is no model gives a message", { skip }, () =>
    withDemo(true, async (page, screenshot) => {
        await page.setInputFiles("#file", fileURLToPath(import.meta.url));
        await page.waitForSelector("#problem", { state: "visible" });
        assert.ok((await page.textContent("#problem")).length > 20);
        await screenshot("problem");
    }),
);
