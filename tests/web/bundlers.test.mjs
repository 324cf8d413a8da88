// The package as `npm pack` makes it, in an app of each bundler (tools/setup-bundlers.sh) and in a page that imports it from another
// origin, as from a CDN: each generates what the golden says, in a headless Chromium. And what the package holds.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { launch } from "./chromium.mjs";
import { serve } from "./server.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const BUNDLERS = join(process.env.EDGEKIT_TOOLCHAINS ?? join(homedir(), ".cache/edgekit/toolchains"), "bundlers");
const GOLDEN = JSON.parse(readFileSync(join(ROOT, "tests/golden/engine/cases.json"))).cases[0];
const run = promisify(execFile);
const skip = existsSync(join(BUNDLERS, "node_modules")) ? false : "there are no bundlers: tools/setup-bundlers.sh";

/** What every app does; the page's title is then what came of it. */
const MAIN = (edgekit, locations = "") => `
import { Model, locations } from ${JSON.stringify(edgekit)};
${locations}
const model = await Model.load("/text.edge");
const { sinks, window, kv } = ${JSON.stringify(GOLDEN.session)};
let ids = [];
for await (const event of model.session({ sinks, window, kv }).generate(${JSON.stringify(GOLDEN.prompt)}, { maxTokens: ${GOLDEN.generate.max_tokens}, temperature: 0 }))
    if (event.kind === "text") ids = ids.concat(event.tokens);
document.title = JSON.stringify({ ids, variant: model.info.variant });`;
const PAGE = (script) => `<!doctype html><title></title><script type="module"${script}</script>`;

/** Bundler -> the files of an app beside main.js, how it is built, and the folder that is then served. */
const APPS = {
    vite: {
        files: {
            "index.html": PAGE(' src="./main.js">'),
            "vite.config.js": 'export default { worker: { format: "es" }, build: { target: "es2022" } };',
        },
        build: ["vite", "build"],
        out: "dist",
    },
    webpack: {
        files: {
            "out/index.html": PAGE(' src="./main.js">'),
            "webpack.config.mjs":
                'export default { mode: "production", entry: "./main.js", output: { path: import.meta.dirname + "/out", publicPath: "/" } };',
        },
        build: ["webpack"],
        out: "out",
    },
    next: {
        files: {
            "next.config.mjs": 'export default { output: "export" };',
            "app/layout.js": "export default ({ children }) => <html><body>{children}</body></html>;",
            "app/page.js": '"use client"; import { useEffect } from "react"; export default () => { useEffect(() => void import("../main.js"), []); return null; };',
        },
        build: ["next", "build", "--webpack"],
        out: "out",
    },
};

let browser;
let packed; // the folder that the tarball unpacks to
before(async () => {
    const folder = join(ROOT, "build/npm");
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: join(ROOT, "runtimes/web") });
    await run("tar", ["xzf", stdout.trim()], { cwd: folder });
    packed = join(folder, "package");
    browser = await launch();
});
after(() => browser?.close());

/** What the page at `url` says in its title. */
async function said(url) {
    const page = await browser.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    try {
        await page.goto(url);
        await page.waitForFunction(() => document.title.startsWith("{"), null, { timeout: 60000 }).catch((error) => errors.push(error.message));
        const title = await page.title();
        assert.match(title, /^\{/, errors.join("\n"));
        return JSON.parse(title);
    } finally {
        await page.close();
    }
}

function write(folder, files) {
    for (const [name, text] of Object.entries(files)) {
        mkdirSync(dirname(join(folder, name)), { recursive: true });
        writeFileSync(join(folder, name), text);
    }
}

const model = join(ROOT, "tests/golden/engine/text.edge");

test("the package holds what an app needs, and no declaration of what it does not see", () => {
    const names = readdirSync(packed, { recursive: true });
    for (const name of ["LICENSE", "README.md", "dist/index.js", "dist/index.d.ts", "dist/worker.js", "dist/wasm/edgekit-relaxed-threads.wasm"])
        assert.ok(names.includes(name), `${name} is missing`);
    for (const name of names.filter((name) => name.endsWith(".d.ts"))) {
        assert.doesNotMatch(name, /connection|engine|native|protocol|serve|slot/);
        assert.doesNotMatch(readFileSync(join(packed, name), "utf8"), /Connection|from "\.\/(engine|native|protocol)/, name);
    }
});

for (const [name, { files, build, out }] of Object.entries(APPS))
    test(`${name} bundles it`, { skip, timeout: 300000 }, async () => {
        const app = join(BUNDLERS, "apps", name);
        rmSync(app, { recursive: true, force: true });
        write(app, { "package.json": '{ "type": "module", "private": true }', "main.js": MAIN("edgekit"), ...files });
        cpSync(packed, join(app, "node_modules/edgekit"), { recursive: true });
        const [command, ...args] = build;
        const environment = { ...process.env, NEXT_TELEMETRY_DISABLED: "1" };
        await run(join(BUNDLERS, "node_modules/.bin", command), args, { cwd: app, env: environment }).catch(({ stdout, stderr }) => assert.fail(stdout + stderr));
        cpSync(model, join(app, out, "text.edge"));
        for (const isolated of [false, true]) {
            const server = await serve({ isolated, root: join(app, out) });
            try {
                const { ids, variant } = await said(`${server.url}/`);
                assert.deepEqual(ids, GOLDEN.ids);
                assert.equal(variant.endsWith("-threads"), isolated);
            } finally {
                server.close();
            }
        }
    });

test("a page imports it from another origin, and from where it says", async () => {
    const cdn = await serve({ isolated: true, root: packed });
    const folder = join(ROOT, "build/npm/page");
    const elsewhere = `locations.worker = "${cdn.url}/dist/worker.js"; locations.wasm = "${cdn.url}/dist/wasm";`;
    write(folder, {
        "cdn.html": PAGE(`>${MAIN(`${cdn.url}/dist/index.js`)}`),
        "here.html": PAGE(`>${MAIN("/dist/index.js", elsewhere)}`),
    });
    cpSync(model, join(folder, "text.edge"));
    cpSync(join(packed, "dist"), join(folder, "dist"), { recursive: true });
    rmSync(join(folder, "dist/wasm"), { recursive: true });
    for (const isolated of [false, true]) {
        const server = await serve({ isolated, root: folder });
        try {
            for (const page of ["cdn.html", "here.html"]) {
                const { ids, variant } = await said(`${server.url}/${page}`);
                assert.deepEqual(ids, GOLDEN.ids);
                assert.ok(!variant.endsWith("-threads"), "threads start from the page's origin alone");
            }
        } finally {
            server.close();
        }
    }
    cdn.close();
});
