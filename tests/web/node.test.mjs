// The package in Node: every variant, in a worker and in this thread. Run with Node 24 after runtimes/web/build.sh.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import * as edgekit from "../../runtimes/web/dist/index.js";
import { cases } from "./cases.mjs";

const root = new URL("../golden/engine/", import.meta.url);
const golden = async (name) => new Uint8Array(await readFile(new URL(name, root)));

test("this Node runs every variant", () => {
    assert.deepEqual(edgekit.supportedVariants(), ["relaxed-threads", "relaxed", "simd-threads", "simd"]);
});

for (const variant of edgekit.supportedVariants())
    for (const [name, run] of Object.entries(cases))
        test(`${variant}: ${name}`, () => run({ edgekit, golden, options: { variant, threads: 2 }, cycles: variant === "simd" ? 1000 : 50 }));

for (const name of ["goldens: the same tokens and text", "leaving the loop, dropping, closing: nothing breaks"])
    test(`without a worker: ${name}`, () => cases[name]({ edgekit, golden, options: { variant: "simd", worker: false } }));

test("a path and a file: URL", async () => {
    for (const source of [new URL("text.edge", root), new URL("text.edge", root).href]) {
        const model = await edgekit.Model.load(source);
        assert.equal(model.info.vocabSize, 260);
        model.close();
    }
    await assert.rejects(edgekit.Model.load(new URL("missing.edge", root)), { code: "io_error" });
});

test("sessions that nobody holds, in the middle of a generation, give their memory back", async () => {
    setFlagsFromString("--expose-gc");
    const gc = runInNewContext("gc");
    const model = await edgekit.Model.load(new URL("text.edge", root), { variant: "simd" });
    const begin = async () => void (await model.session({ window: 4000, kv: "f32" }).generate("Once", { ignoreEos: true }).next());
    const { totalBytes } = await model.plan({ window: 4000, kv: "f32" });
    for (let i = 0; i < 200; ++i) {
        await begin();
        if (i % 10 === 9) {
            gc();
            await setTimeout(30);
        }
    }
    assert.ok(200 * totalBytes > 300e6, "the sessions are too small to tell");
    assert.ok((await model.memoryBytes()) < 150e6, `${await model.memoryBytes()} bytes of memory`);
    model.close();
});
