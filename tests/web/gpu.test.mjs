// The package in a headless Chromium whose WebGPU is SwiftShader: results are a GPU's, its speed is not.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { cases } from "./cases.mjs";
import { launch, SWIFTSHADER } from "./chromium.mjs";
import { serve } from "./server.mjs";

// What sessions promise; the other cases are about what the GPU has no part in.
const CASES = Object.keys(cases).filter((name) => /saved|signal|long prompt|leaving|conversation/.test(name));

let browser;
let server;
let isolated;
before(async () => {
    browser = await launch(SWIFTSHADER);
    server = await serve({ isolated: false });
    isolated = await serve({ isolated: true });
});
after(async () => {
    await browser?.close();
    server?.close();
    isolated?.close();
});

async function inPage(use, argument, { of = browser, from = server } = {}) {
    const context = await of.newContext();
    try {
        const page = await context.newPage();
        await page.goto(`${from.url}/empty`);
        return await page.evaluate(use, argument);
    } finally {
        await context.close();
    }
}

for (const variant of ["relaxed", "relaxed-threads"])
    for (const name of variant === "relaxed" ? CASES : CASES.slice(0, 1))
        test(`${variant} on WebGPU: ${name}`, () =>
            inPage(
                async ([name, variant]) => {
                    const edgekit = await import("/runtimes/web/dist/index.js");
                    const { cases } = await import("/tests/web/cases.mjs");
                    const golden = async (file) => new Uint8Array(await (await fetch(`/tests/golden/engine/${file}`)).arrayBuffer());
                    await cases[name]({ edgekit, golden, options: { backend: "gpu", variant, threads: 2 } });
                },
                [name, variant],
                { from: variant === "relaxed" ? server : isolated },
            ));

for (const kv of ["f32", "f16", "int8"])
    test(`logits beside WebAssembly's, ${kv}`, async () => {
        const differences = await inPage(async (kv) => {
            const { Model } = await import("/runtimes/web/dist/index.js");
            const [gpu, cpu] = await Promise.all(["gpu", "cpu"].map((backend) => Model.load("/tests/golden/engine/text.edge", { backend })));
            const found = [];
            for (const tokens of [1, 5, 17]) {
                const ids = Array.from({ length: tokens }, (_, i) => (7 * i + 3) % 250);
                const [a, b] = await Promise.all([gpu, cpu].map((model) => model.session({ kv }).forward(ids, { allLogits: true })));
                const spread = b.reduce((x, y) => Math.max(x, y)) - b.reduce((x, y) => Math.min(x, y));
                found.push(a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0) / spread);
            }
            return found;
        }, kv);
        for (const difference of differences) assert.ok(difference < 2e-3, `${differences}`);
    });

/** Loads the model as `options` say; what computes it, or the error. */
const load = async (options) => {
    const { Model } = await import("/runtimes/web/dist/index.js");
    try {
        const model = await Model.load("/tests/golden/engine/text.edge", options);
        model.close();
        return model.info;
    } catch ({ code, message }) {
        return { code, message };
    }
};

test("auto: WebGPU is tried, and SwiftShader is slower than WebAssembly", async () => {
    const { backend, relayed } = await inPage(load, { backend: "auto" });
    assert.equal(backend, "cpu");
    assert.match(relayed, /the processor is faster here: [\d.]+ tokens\/s, the gpu [\d.]+ tokens\/s/);
    const whole = await inPage(load, { backend: "gpu" });
    assert.deepEqual([whole.backend, whole.relayed], ["gpu", ""]);
});

test("without a GPU: auto takes WebAssembly and says why, gpu is refused", async () => {
    const without = await launch();
    try {
        const { backend, relayed } = await inPage(load, { backend: "auto" }, { of: without });
        assert.equal(backend, "cpu");
        assert.match(relayed, /no WebGPU/);
        const { code, message } = await inPage(load, { backend: "gpu" }, { of: without });
        assert.equal(code, "unsupported");
        assert.match(message, /no WebGPU.*use the backend auto or cpu/);
        assert.match((await inPage(load, { backend: "cuda" }, { of: without })).message, /cuda; give one of auto, cpu, gpu/);
    } finally {
        await without.close();
    }
});

test("the graphics process dies in the middle of a text: WebAssembly goes on with the same text", async () => {
    const own = await launch(SWIFTSHADER);
    try {
        const context = await own.newContext();
        const page = await context.newPage();
        await page.goto(`${server.url}/empty`);
        const half = await page.evaluate(async () => {
            const { Model } = await import("/runtimes/web/dist/index.js");
            const story = async (backend) => (await Model.load("/tests/golden/engine/text.edge", { backend })).session().generate("Once upon a time", { maxTokens: 120, temperature: 0, ignoreEos: true });
            globalThis.expected = [];
            for await (const event of await story("cpu")) if (event.kind === "text") expected.push(...event.tokens);
            globalThis.events = await story("gpu");
            globalThis.ids = [];
            while (ids.length < 20) {
                const { value } = await events.next();
                if (value.kind === "text") ids.push(...value.tokens);
            }
            return ids.length;
        });
        assert.ok(half >= 20);
        await (await own.newBrowserCDPSession()).send("Browser.crashGpuProcess").catch(() => {}); // it does not answer
        const { ids, expected, relayed } = await page.evaluate(async () => {
            let relayed;
            for await (const event of events) {
                if (event.kind === "text") ids.push(...event.tokens);
                if (event.kind === "done") relayed = event.relayed;
            }
            return { ids, expected, relayed };
        });
        assert.deepEqual(ids, expected);
        assert.match(relayed, /lost|refused|read/);
    } finally {
        await own.close();
    }
});
