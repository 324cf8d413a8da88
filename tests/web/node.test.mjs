// The package in Node: every variant, in a worker and in this thread. Run with Node 24 after runtimes/web/build.sh.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

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
