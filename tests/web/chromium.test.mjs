// The package in a headless Chromium: every variant; the storage that keeps models; downloads. Run with Node 24 after runtimes/web/build.sh.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { cases } from "./cases.mjs";
import { launch } from "./chromium.mjs";
import { dictate } from "./downloads.mjs";
import { answerWith, serve } from "./server.mjs";

const VARIANTS = ["relaxed-threads", "simd"]; // Node runs all four
const MODEL = "/tests/golden/engine/text.edge";
const golden = JSON.parse(readFileSync(new URL("../golden/download.json", import.meta.url)));

let browser;
let isolated;
let plain;
before(async () => {
    browser = await launch();
    isolated = await serve({ isolated: true });
    plain = await serve({ isolated: false });
});
after(async () => {
    await browser?.close();
    isolated?.close();
    plain?.close();
});

/** Runs `use(page)` in a browser with nothing stored; a page's own errors fail the test. */
async function withPage(server, use) {
    const context = await browser.newContext();
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    try {
        await page.goto(`${server.url}/empty`);
        await use(page);
        assert.deepEqual(errors, []);
    } finally {
        await context.close();
    }
}

/** Loads a model in the page, generates, closes; what happened, or the error's code and message. */
function loadAndGenerate(page, url, options = {}) {
    return page.evaluate(
        async ([url, { abortAfter, ...options }]) => {
            const { Model, cache } = await import("/runtimes/web/dist/index.js");
            const progress = [];
            const abort = new AbortController();
            const onProgress = (p) => {
                progress.push(p);
                if (p.loaded >= abortAfter) abort.abort();
            };
            try {
                const model = await Model.load(url, { ...options, onProgress, signal: abort.signal });
                let ids = [];
                for await (const event of model.session().generate("Once upon a time", { maxTokens: 10, temperature: 0, ignoreEos: true }))
                    if (event.kind === "text") ids = ids.concat(event.tokens);
                const memory = await model.memoryBytes();
                model.close();
                return { ids, memory, progress, cached: await cache.list(), variant: model.info.variant };
            } catch (error) {
                return { name: error.name, code: error.code, message: error.message, progress };
            }
        },
        [url, options],
    );
}

for (const variant of VARIANTS)
    for (const name of Object.keys(cases))
        test(`${variant}: ${name}`, () =>
            withPage(variant.endsWith("-threads") ? isolated : plain, (page) =>
                page.evaluate(
                    async ([name, options, cycles]) => {
                        const edgekit = await import("/runtimes/web/dist/index.js");
                        const { cases } = await import("/tests/web/cases.mjs");
                        const golden = async (file) => new Uint8Array(await (await fetch(`/tests/golden/engine/${file}`)).arrayBuffer());
                        await cases[name]({ edgekit, golden, options, cycles });
                    },
                    [name, { variant, threads: 2 }, variant === "simd" ? 1000 : 50],
                ),
            ));

test("the best variant is chosen, and without isolation one without threads", async () => {
    await withPage(isolated, async (page) => {
        assert.equal((await loadAndGenerate(page, MODEL)).variant, "relaxed-threads");
        const here = await loadAndGenerate(page, MODEL, { worker: false });
        assert.deepEqual([here.variant, here.ids.length], ["relaxed", 10]);
    });
    await withPage(plain, async (page) => {
        assert.equal((await loadAndGenerate(page, MODEL)).variant, "relaxed");
        const { code, message } = await loadAndGenerate(page, MODEL, { variant: "simd-threads" });
        assert.equal(code, "unsupported");
        assert.match(message, /COOP and COEP/);
    });
});

test("a reload starts from the storage", () =>
    withPage(plain, async (page) => {
        const first = await loadAndGenerate(page, MODEL);
        const size = first.progress.at(-1).total;
        assert.deepEqual(first.progress.at(-1), { phase: "load", loaded: size, total: size });
        assert.ok(first.progress.some((p) => p.phase === "download"));
        assert.deepEqual(first.cached.map((c) => [c.bytes, c.complete]), [[size, true]]);

        await page.reload();
        plain.requests.length = 0;
        const second = await loadAndGenerate(page, MODEL);
        assert.deepEqual(second.ids, first.ids);
        assert.ok(second.progress.every((p) => p.phase === "load"));
        const asked = plain.requests.filter(({ path }) => path === MODEL);
        assert.equal(asked.length, 1);
        assert.ok(asked[0].headers["if-none-match"]);

        await page.reload();
        plain.requests.length = 0;
        const pinned = `${MODEL}#sha256=${first.cached[0].sha256}`;
        assert.deepEqual((await loadAndGenerate(page, pinned)).ids, first.ids);
        assert.deepEqual(plain.requests.filter(({ path }) => path === MODEL), [], "a pinned file is not asked for again");

        const left = await page.evaluate(async (url) => {
            const { cache } = await import("/runtimes/web/dist/index.js");
            await cache.delete(url);
            return cache.list();
        }, MODEL);
        assert.deepEqual(left, []);
    }));

test("a download that was interrupted goes on after a reload", () =>
    withPage(plain, async (page) => {
        const path = "/slow/text.edge";
        let ranges = [];
        plain.dictate(path, (request, _, response) => {
            ranges.push(request.headers.range);
            const reply = plain.sendFile(request, response, MODEL);
            if (ranges.length > 1) return;
            response.removeAllListeners("drain"); // the first time the server stalls in the middle
            const write = response.write.bind(response);
            let sent = 0;
            response.write = (block) => (sent += block.length) > 70000 || write(block);
            response.end = () => reply;
        });
        const first = await loadAndGenerate(page, path, { abortAfter: 1 });
        assert.equal(first.name, "AbortError");
        const part = first.progress.at(-1).loaded;
        assert.ok(part > 0);

        await page.reload();
        const second = await loadAndGenerate(page, path);
        assert.equal(second.ids?.length, 10, second.message);
        assert.equal(ranges.length, 2);
        assert.match(ranges[1], /^bytes=[1-9]\d*-$/);
        assert.ok(Number(ranges[1].slice(6, -1)) >= part);
    }));

test("another origin's server that refuses If-Range is asked for the whole", () =>
    withPage(plain, async (page) => {
        const path = "/foreign/text.edge";
        const asked = [];
        isolated.dictate(path, (request, socket, response) => {
            asked.push(`${request.method} ${request.headers.range ?? ""}`);
            if (request.method === "OPTIONS") return response.writeHead(403).end();
            response.setHeader("Access-Control-Allow-Origin", "*");
            response.setHeader("Access-Control-Expose-Headers", "ETag");
            if (asked.length === 1) {
                const write = response.write.bind(response);
                response.write = (block) => {
                    response.write = () => true; // one block, then it breaks
                    setTimeout(() => socket.destroy(), 300);
                    return write(block) || true;
                };
                response.end = () => response;
            }
            return isolated.sendFile(request, response, MODEL);
        });
        const { ids, message } = await loadAndGenerate(page, isolated.url + path);
        assert.equal(ids?.length, 10, message);
        assert.deepEqual(asked, ["GET ", "OPTIONS ", "GET "]);
    }));

test("the storage is full: a message at once", () =>
    withPage(plain, async (page) => {
        const client = await page.context().newCDPSession(page);
        await client.send("Storage.overrideQuotaForOrigin", { origin: plain.url, quotaSize: 50_000 });
        plain.requests.length = 0;
        const { code, message } = await loadAndGenerate(page, MODEL);
        assert.equal(code, "io_error");
        assert.match(message, /storage is full/);
        assert.equal(plain.requests.filter(({ path }) => path === MODEL).length, 1);
    }));

test("without storage the weights go straight into memory, once", () =>
    withPage(plain, async (page) => {
        const { ids, memory, cached, progress } = await loadAndGenerate(page, MODEL, { cache: false });
        assert.equal(ids.length, 10);
        assert.deepEqual(cached, []);
        assert.ok(progress.some((p) => p.phase === "download"));
        assert.ok(memory < 40_000_000, `${memory} bytes of memory`);
    }));

test("a page that is no model, and a missing one", () =>
    withPage(plain, async (page) => {
        assert.equal((await loadAndGenerate(page, "/empty")).code, "invalid_file");
        const { code, message } = await loadAndGenerate(page, "/missing.edge");
        assert.equal(code, "io_error");
        assert.match(message, /404/);
    }));

for (const [i, c] of golden.cases.entries())
    test(`download into the storage: ${c.name}`, () =>
        withPage(plain, async (page) => {
            const path = `/models/${i}.edge`;
            const { complaints, exchanges } = dictate(golden, c, plain, path, answerWith);
            const wrong = await page.evaluate(
                ([golden, c, url]) =>
                    new Promise((resolve) => {
                        const worker = new Worker("/tests/web/downloads_worker.mjs", { type: "module" });
                        worker.onmessage = ({ data }) => resolve(data);
                        worker.onerror = ({ message }) => resolve(message);
                        worker.postMessage({ golden, c, url });
                    }),
                [{ size: golden.size, sha256: golden.sha256 }, c, plain.url + path],
            );
            assert.equal(wrong, "");
            assert.deepEqual({ complaints, exchanges }, { complaints: [], exchanges: [] });
        }));
