// `edgekit bench --device browser`, in a headless Chromium, and the page of many results at the widths of a desk and of a phone.
// EDGEKIT_SCREENSHOTS=folder keeps what that looked like.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import { launch } from "./chromium.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const python = process.env.EDGEKIT_PYTHON ?? join(root, ".venv/bin/python");
const skip = existsSync(join(root, "runtimes/web/dist/wasm/edgekit-simd.wasm")) ? false : "the SDK is not built: runtimes/web/build.sh";
const folder = mkdtempSync(join(tmpdir(), "edgekit-bench-"));
const out = join(folder, "browser.json");

let browser;
before(async () => {
    if (!skip) browser = await launch();
});
after(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true });
});

function edgekit(...words) {
    const process_ = spawn(python, ["-m", "edgekit", "bench", ...words], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    process_.said = "";
    for (const stream of [process_.stdout, process_.stderr]) stream.on("data", (text) => (process_.said += text));
    process_.ended = once(process_, "exit").then(([status]) => status);
    return process_;
}

async function address(process_) {
    for (let i = 0; i < 1200; ++i) {
        const url = /open (http\S+)/.exec(process_.said)?.[1];
        if (url) return url;
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(process_.said);
}

const model = "tests/golden/engine/text.edge";
const options = ["--device", "browser", "--prompt", "5", "--decode", "3", "--depth", "0,20", "--repetitions", "1", "--sustained", "0.001"];

test("a browser measures, and its figures come back", { skip }, async () => {
    const process_ = edgekit(model, ...options, "--out", out);
    const page = await browser.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    await page.goto(await address(process_));
    assert.equal(await process_.ended, 0, process_.said);
    await page.waitForSelector("#file", { state: "visible" }); // the same as a file
    assert.match(await page.getAttribute("#file", "href"), /^blob:/);
    assert.deepEqual(errors, []);
    await page.close();
    const result = JSON.parse(readFileSync(out));
    assert.equal(result.device.kind, "browser");
    assert.match(result.device.name, /Chrom/);
    assert.equal(result.build.driver, "web");
    assert.deepEqual(result.rows.map(({ depth, prompt }) => [depth, prompt]), [[0, 5], [20, 5]]);
    for (const row of result.rows) assert.ok(row.decode_tok_s > 0 && row.prefill_tok_s > 0);
    assert.ok(Object.values(result.engines)[0].memory.peak_bytes > 1e6);
    assert.equal(result.energy.joules_per_token, null);
    assert.match(result.energy.reason, /browser does not tell/);
});

// What a page sees of being in front, in the place of the browser's own: a phone's user who looks away and comes back.
function lookAway({ hides, refuses }) {
    window.locks = [];
    const request = async (kind) => {
        if (refuses) throw new DOMException("the battery is low", "NotAllowedError");
        const lock = { kind, held: true, release: async () => void (lock.held = false) };
        window.locks.push(lock);
        return lock;
    };
    Object.defineProperty(navigator, "wakeLock", { value: refuses === null ? undefined : { request } });
    let hidden = false;
    Object.defineProperty(document, "visibilityState", { get: () => (hidden ? "hidden" : "visible") });
    const turn = (to) => {
        hidden = to;
        for (const lock of window.locks) if (to) lock.held = false; // as browsers do
        document.dispatchEvent(new Event("visibilitychange"));
    };
    const bar = () => document.getElementById("bar")?.value > 0;
    const timer = setInterval(() => {
        if (!bar()) return;
        clearInterval(timer);
        if (!hides) return;
        turn(true);
        turn(false);
        window.heldAfter = new Promise((resolve) => setTimeout(() => resolve(window.locks.map((lock) => lock.held)), 0));
    }, 1);
}

for (const [what, how, hidden] of [
    ["keeps the screen on", { hides: false, refuses: false }, false],
    ["takes the screen back, and says that it was hidden", { hides: true, refuses: false }, true],
    ["does without where it is refused", { hides: true, refuses: true }, true],
    ["does without where there is none", { hides: false, refuses: null }, false],
])
    test(`a page ${what}`, { skip }, async () => {
        const process_ = edgekit(model, ...options, "--out", out);
        const page = await browser.newPage();
        const errors = [];
        page.on("pageerror", (error) => errors.push(error.message));
        await page.addInitScript(lookAway, how);
        await page.goto(await address(process_));
        assert.equal(await process_.ended, 0, process_.said);
        await page.waitForSelector("#file", { state: "visible" });
        const result = JSON.parse(readFileSync(out));
        assert.equal(result.device.hidden, hidden);
        assert.equal(result.flags.includes("hidden"), hidden);
        assert.equal(/warning: hidden: the page or app that measured was not in front/.test(process_.said), hidden);
        const locks = await page.evaluate(() => window.locks);
        assert.equal(locks.length, how.refuses !== false ? 0 : hidden ? 2 : 1);
        for (const { kind, held } of locks) assert.deepEqual([kind, held], ["screen", false]); // let go at the end
        if (locks.length === 2) assert.deepEqual(await page.evaluate(() => window.heldAfter), [false, true]);
        assert.deepEqual(errors, []);
        await page.close();
    });

test("a page of another run, or of another place, is told so", { skip }, async () => {
    const process_ = edgekit(model, ...options);
    const url = new URL(await address(process_));
    const page = await browser.newPage();
    const answer = await page.goto(url.origin);
    assert.equal(answer.status(), 403);
    assert.match(await answer.text(), /open the whole one that edgekit bench printed/);
    await page.close();
    process_.kill("SIGINT");
    assert.equal(await process_.ended, 130);
});

test("a page that cannot run the engine says so, and so does the command", { skip }, async () => {
    const process_ = edgekit(model, ...options);
    const page = await browser.newPage();
    await page.goto(`${await address(process_)}?variant=fast`);
    assert.equal(await process_.ended, 1);
    assert.match(process_.said, /error: the device gave up: .*fast/);
    assert.match(await page.textContent("#problem"), /did not work/);
    await page.close();
});

test("one page of results sorts, filters, and fits", { skip }, async () => {
    const html = join(folder, "page.html");
    const process_ = edgekit("report", out, out, "-o", html);
    assert.equal(await process_.ended, 0, process_.said);
    for (const width of [1280, 390]) {
        const page = await browser.newPage({ viewport: { width, height: 900 } });
        const errors = [];
        page.on("pageerror", (error) => errors.push(error.message));
        await page.goto(pathToFileURL(html).href);
        const shown = () => page.locator("#list tbody tr:visible").count();
        assert.equal(await shown(), 2);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
        const cut = await page.evaluate(() => [...document.querySelectorAll("td, th, dd, p")].filter((e) => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1).length);
        assert.equal(cut, 0, `${cut} texts are cut off at ${width} pixels`);
        await page.selectOption("#case", "depth 20, prompt 5");
        assert.equal(await shown(), 2);
        await page.fill("#filter", "chrom q8");
        assert.equal(await shown(), 2);
        await page.fill("#filter", "iphone");
        assert.equal(await shown(), 0);
        assert.ok(await page.isVisible("#none"));
        await page.fill("#filter", "");
        await page.selectOption("#sort", "memory");
        assert.equal(await page.getAttribute("#list th:nth-child(9)", "aria-sort"), "ascending");
        if (process.env.EDGEKIT_SCREENSHOTS) await page.screenshot({ path: join(process.env.EDGEKIT_SCREENSHOTS, `results-${width}.png`), fullPage: true });
        assert.deepEqual(errors, []);
        await page.close();
    }
});
