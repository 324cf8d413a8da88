// This engine beside wllama and Transformers.js in one Chromium, on the same weights, in turns. Writes JSON, prints a table.
// runtimes/web/bench/run.sh prepares what it needs.

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { launch } from "../../../tests/web/chromium.mjs";
import { serve } from "../../../tests/web/server.mjs";

const { values } = parseArgs({
    options: {
        rounds: { type: "string", default: "5" },
        prompt: { type: "string", default: "128" },
        tokens: { type: "string", default: "32" },
        threads: { type: "string", default: "2" },
        out: { type: "string", default: "build/bench-web/result.json" },
    },
});
const [rounds, promptTokens, tokens, threads] = ["rounds", "prompt", "tokens", "threads"].map((name) => Number(values[name]));
const prompt = Array.from({ length: promptTokens }, (_, i) => String.fromCharCode(97 + ((i * i + 3 * i) % 26))).join("");

// name -> engine and options; the first is what the others are compared with
const RUNS = {
    wllama: ["wllama", { threads }],
    "Transformers.js": ["transformers", { threads }],
    edgekit: ["edgekit", { threads, variant: "relaxed-threads" }],
    "edgekit, plain SIMD": ["edgekit", { threads, variant: "simd-threads" }],
    "edgekit, one thread": ["edgekit", { threads: 1, variant: "relaxed" }],
    "edgekit, plain SIMD, one thread": ["edgekit", { threads: 1, variant: "simd" }],
};

const browser = await launch();
const server = await serve({ isolated: true });
const rows = Object.fromEntries(Object.keys(RUNS).map((name) => [name, { what: "", prefill: [], decode: [], error: null }]));
for (let round = 0; round < rounds; ++round)
    for (const [name, [engine, options]] of Object.entries(RUNS)) {
        const row = rows[name];
        if (row.error) continue;
        const page = await browser.newPage(); // its memory goes when it closes
        try {
            await page.goto(`${server.url}/runtimes/web/bench/page.html`);
            const { what, prefill, decode } = await page.evaluate(
                async ([engine, options, prompt, tokens]) => {
                    const { engines, measure } = await import("/runtimes/web/bench/engines.js");
                    const opened = await engines[engine](options);
                    await measure(opened, prompt.slice(0, 16), 4); // code is compiled, pages are touched
                    return { what: opened.what, ...(await measure(opened, prompt, tokens)) };
                },
                [engine, options, prompt, tokens],
            );
            row.what = what;
            row.prefill.push(prefill);
            row.decode.push(decode);
            console.error(`${round + 1}/${rounds}  ${name.padEnd(32)} prefill ${prefill.toFixed(1)}, decode ${decode.toFixed(1)} tok/s`);
        } catch (error) {
            row.error = error.message.split("\n")[0];
            console.error(`${round + 1}/${rounds}  ${name.padEnd(32)} ${row.error}`);
        } finally {
            await page.close();
        }
    }
const chromium = browser.version();
await browser.close();
server.close();

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const spread = (numbers) => `${median(numbers).toFixed(1)} (${Math.min(...numbers).toFixed(1)}–${Math.max(...numbers).toFixed(1)})`;
const ratio = (of, to) => `${(median(of) / median(to)).toFixed(1)}×`;
writeFileSync(values.out, JSON.stringify({ chromium, prompt: promptTokens, tokens, rounds, rows }, null, 1));

const [first] = Object.values(rows);
console.log(`Chromium ${chromium}, prompt of ${promptTokens} tokens, ${tokens} generated, median of ${rounds} rounds in turns (least–most), tok/s\n`);
console.log("| engine | prefill | decode | prefill, of wllama's | decode, of wllama's |\n|---|---:|---:|---:|---:|");
for (const [name, { what, prefill, decode, error }] of Object.entries(rows))
    if (error) console.log(`| ${name} | ${error} | | | |`);
    else
        console.log(
            `| ${name} (${what}) | ${spread(prefill)} | ${spread(decode)} | ${first.error ? "" : ratio(prefill, first.prefill)} | ${first.error ? "" : ratio(decode, first.decode)} |`,
        );
