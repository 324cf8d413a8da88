// What every variant must do, in Node and in a browser: each case gets `{ edgekit, golden, options }`, where golden(name) gives the
// bytes of a file of tests/golden/engine and options are those of Model.load.

function equal(found, expected, what) {
    const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
    if (a !== b) throw new Error(`${what}: ${a.slice(0, 300)} instead of ${b.slice(0, 300)}`);
}

function ok(condition, what) {
    if (!condition) throw new Error(what);
}

async function fails(promise, code, words) {
    const error = await promise.then(
        () => ok(false, `expected ${code}, nothing was thrown`),
        (error) => error,
    );
    equal(error.name, "EdgekitError", `what was thrown (${error.message})`);
    equal(error.code, code, `the code of "${error.message}"`);
    ok(words.test(error.message), `the message does not match ${words}: ${error.message}`);
}

const camel = (options) => Object.fromEntries(Object.entries(options).map(([name, value]) => [name.replace(/_(.)/g, (_, c) => c.toUpperCase()), value]));

async function generated(events) {
    const all = { ids: [], text: "", finish: "", kinds: new Set() };
    for await (const event of events) {
        all.kinds.add(event.kind);
        if (event.kind === "text") {
            all.ids.push(...event.tokens);
            all.text += event.text;
        } else if (event.kind === "done") {
            Object.assign(all, event);
        }
    }
    return all;
}

async function withModel({ edgekit, golden, options }, name, use) {
    const model = await edgekit.Model.load(await golden(name), options);
    try {
        await use(model);
    } finally {
        model.close();
    }
}

export const cases = {
    async "goldens: the same tokens and text"(context) {
        const { models, cases } = JSON.parse(new TextDecoder().decode(await context.golden("cases.json")));
        for (const { file } of models)
            await withModel(context, file, async (model) => {
                for (const c of cases.filter((c) => c.model === file))
                    for (const speculation of [0, 4, -1]) {
                        const session = model.session(c.session);
                        const got = await generated(session.generate(c.prompt ?? c.prompt_ids ?? c.messages, { ...camel(c.generate), speculation }));
                        equal(got.ids, c.ids, `${file} with speculation ${speculation}: tokens`);
                        equal(got.text, c.text, `${file} with speculation ${speculation}: text`);
                        equal(got.finish, c.finish, `${file}: finish`);
                        if (c.generate.seed) equal(got.seed, c.generate.seed, `${file}: seed`);
                        await session.close();
                    }
            });
    },

    async "goldens: chats are rendered"(context) {
        const { chats } = JSON.parse(new TextDecoder().decode(await context.golden("cases.json")));
        await withModel(context, "text.edge", async (model) => {
            for (const { messages, text, ids } of chats) {
                equal(await model.renderChat(messages), text, "the rendered chat");
                equal(await model.encodeChat(messages), ids, "the chat as ids");
            }
        });
    },

    async "the tokenizer"(context) {
        await withModel(context, "text.edge", async ({ tokenizer }) => {
            const ids = await tokenizer.encode("Grüße");
            equal(await tokenizer.decode(ids), "<|begin|>Grüße", "encoded and decoded");
            equal(await tokenizer.decode(ids, { skipSpecialTokens: true }), "Grüße", "without special tokens");
            equal([tokenizer.vocabSize, tokenizer.bosId, tokenizer.eosId, tokenizer.padId], [260, 256, 257, null], "what it is");
            equal(await tokenizer.tokenToId("<|end|>"), tokenizer.eosId, "the id of a token");
            equal(await tokenizer.tokenToId("no such token"), null, "the id of no token");
            equal([...(await tokenizer.tokenBytes(tokenizer.bosId))], [...new TextEncoder().encode("<|begin|>")], "the bytes of a token");
        });
        await withModel(context, "experts.edge", async (model) => equal(model.tokenizer, null, "the tokenizer of a package without one"));
    },

    async "what is not given is the package's"(context) {
        await withModel(context, "text.edge", async (model) => {
            const session = model.session({ window: 24, sinks: 2 });
            const draw = async (options) => {
                await session.reset();
                return generated(session.generate("Hello", { ignoreEos: true, ...options }));
            };
            const drawn = await draw({});
            equal([drawn.finish, drawn.ids.length], ["length", 26], "the end");
            equal((await draw({ seed: drawn.seed, temperature: 0.7, topK: 20 })).ids, drawn.ids, "the seed draws the same again");
            ok((await draw({})).seed !== drawn.seed, "the same seed twice");
        });
    },

    async "a conversation: turns, again, back, anew"(context) {
        await withModel(context, "text.edge", async (model) => {
            const short = { maxTokens: 6, ignoreEos: true, temperature: 0 };
            const chat = new context.edgekit.ChatSession(model, { system: "Be brief." });
            await fails(generated(chat.regenerate(short)), "invalid_argument", /no reply/);
            await generated(chat.say("hi", short));
            const second = await generated(chat.say("and you?", short));
            equal(chat.messages.map(({ role }) => role), ["system", "user", "assistant", "user", "assistant"], "the messages");
            ok(second.stats.cachedTokens > 0, "the second turn found nothing in the cache");
            equal((await generated(model.session().generate(chat.messages.slice(0, -1), short))).ids, second.ids, "the same messages given whole");
            equal((await generated(chat.regenerate(short))).ids, second.ids, "the same answer again");
            equal(chat.undo(), { role: "user", content: "and you?" }, "what was taken back");
            equal(chat.messages.length, 3, "messages that are left");
            for await (const event of chat.say("leave", short)) if (event.kind === "text" && event.text) break;
            equal(chat.messages.length, 5, "messages after a reply was left");
            await fails(generated(chat.say("?", { topP: 2 })), "invalid_argument", /top_p/);
            equal(chat.messages.length, 5, "messages after a turn that was refused");
            chat.messages.push({ role: "tool", content: "3" });
            await generated(chat.reply(short));
            equal(chat.messages.at(-1).role, "assistant", "who has spoken last");
            chat.system = "Be kind.";
            await chat.reset();
            equal([chat.messages, await chat.session.position()], [[{ role: "system", content: "Be kind." }], 0], "after a reset");
            await fails(generated(chat.reply(short)), "invalid_argument", /nobody's question/);
        });
    },

    async "goldens: a saved session goes on"(context) {
        const { states } = JSON.parse(new TextDecoder().decode(await context.golden("cases.json")));
        for (const s of states)
            await withModel(context, s.model, async (model) => {
                const saved = model.session(s.session);
                await saved.restore(await context.golden(s.file));
                equal(await saved.position(), s.position, "the restored position");
                const again = model.session(s.session);
                await again.restore(await saved.save());
                for (const session of [saved, again, again.fork()]) {
                    if (session !== saved && session !== again) await session.restore(await context.golden(s.file));
                    const got = await generated(session.generate(s.prompt_ids, { append: true, maxTokens: s.max_tokens, temperature: 0, ignoreEos: true }));
                    equal(got.ids, s.ids, "tokens after restoring");
                }
            });
    },

    async "a signal ends a generation, and the session goes on"(context) {
        await withModel(context, "text.edge", async (model) => {
            const session = model.session({ window: 64 });
            const abort = new AbortController();
            let tokens = 0;
            let last;
            for await (const event of session.generate("Hello", { ignoreEos: true, maxTokens: context.edgekit.ENDLESS, signal: abort.signal })) {
                last = event;
                if (event.kind === "text" && (tokens += event.tokens.length) > 100) abort.abort();
            }
            equal([last.kind, last.finish], ["done", "cancelled"], "the last event");
            equal((await generated(session.generate("Hello", { maxTokens: 5, ignoreEos: true }))).ids.length, 5, "tokens afterwards");
            equal((await generated(session.generate("Hello", { signal: AbortSignal.abort() }))).finish, "cancelled", "a signal that was aborted before");
        });
    },

    async "a long prompt is told about, and can be cancelled"(context) {
        await withModel(context, "text.edge", async (model) => {
            const session = model.session({ window: 4000, chunk: 16 });
            const abort = new AbortController();
            const prompt = Array.from({ length: 3000 }, (_, i) => i % 250);
            const seen = [];
            for await (const event of session.generate(prompt, { signal: abort.signal })) {
                seen.push(event);
                if (seen.length === 3) abort.abort();
            }
            equal(seen.slice(0, 2).map((e) => [e.kind, e.done, e.total]), [["prompt", 16, 3000], ["prompt", 32, 3000]], "the first events");
            equal(seen.at(-1).finish, "cancelled", "the last event");
            ok((await session.position()) < 2900, "it went on to the end");
        });
    },

    async "leaving the loop, dropping, closing: nothing breaks"(context) {
        await withModel(context, "text.edge", async (model) => {
            const session = model.session({ window: 64 });
            for await (const event of session.generate("Hello", { ignoreEos: true })) if (event.kind === "text") break;
            const first = session.generate("one", { ignoreEos: true });
            await first.next();
            const got = await generated(session.generate("two", { maxTokens: 3, ignoreEos: true }));
            equal(got.ids.length, 3, "a newer generation replaces the older");
            const state = await session.save();
            for (const call of [() => session.reset(), () => session.rewind(0), () => session.forward([1]), () => session.restore(state)]) {
                const ended = session.generate("two", { ignoreEos: true });
                await ended.next();
                await call();
                for await (const { kind } of ended) ok(kind !== "done", `a done event after ${call}`);
            }
            const running = session.generate("three", { ignoreEos: true });
            await running.next();
            await session.close();
            while (!(await running.next()).done);
            await fails(session.position(), "invalid_argument", /closed/);
        });
        const model = await context.edgekit.Model.load(await context.golden("text.edge"), context.options);
        const events = model.session().generate("Hello", { ignoreEos: true });
        await events.next();
        model.close();
        await fails(generated(events), "invalid_argument", /closed/);
    },

    async "mistakes are said"(context) {
        const { edgekit, golden, options } = context;
        await withModel(context, "text.edge", async (model) => {
            await fails(model.plan({ windo: 3 }), "invalid_argument", /no option windo/);
            await fails(model.plan({ window: -1 }), "invalid_argument", /window is -1/);
            await fails(model.plan({ kv: "int3" }), "invalid_argument", /int3.*int4/);
            await fails(generated(model.session().generate("x", { maxtokens: 1 })), "invalid_argument", /no option maxtokens/);
            await fails(generated(model.session().generate("x", { temperature: "hot" })), "invalid_argument", /hot/);
            await fails(generated(model.session().generate([1e9])), "invalid_argument", /1000000000/);
            await fails(generated(model.session({ window: 8, onFull: "error" }).generate("a long enough text")), "context_full", /room/);
            await fails(model.renderChat([{ role: "tool" }, 3]), "template_error", /./);
            try {
                await model.session({ memoryBudget: 1000 }).position();
                ok(false, "a budget of 1000 bytes was enough");
            } catch (error) {
                equal(error.code, "over_budget", error.message);
                const plan = await model.plan({ memoryBudget: error.neededBytes });
                ok(plan.totalBytes <= error.neededBytes, "the budget that was named is not enough");
            }
        });
        const { cacheBytes, window } = await edgekit.Model.canLoad(await golden("text.edge"), { window: 64 });
        await withModel(context, "text.edge", async (model) => equal((await model.plan({ window })).cacheBytes, cacheBytes, "the plan before loading"));
        await fails(edgekit.Model.canLoad(await golden("text.edge"), { memoryBudget: 1000 }), "over_budget", /1000/);
        await fails(edgekit.Model.canLoad(await golden("cases.json")), "invalid_file", /package/);
        await fails(edgekit.Model.load(await golden("text.edge"), { ...options, thread: 2 }), "invalid_argument", /no option thread/);
        await fails(edgekit.Model.load(await golden("text.edge"), { ...options, variant: "avx" }), "unsupported", /avx.*simd/);
    },

    async "hostile files give a message"({ edgekit, golden, options }) {
        const good = await golden("text.edge");
        const changed = (change) => {
            const bytes = good.slice();
            return change(bytes) ?? bytes;
        };
        const hostile = [
            new Uint8Array(0),
            new Uint8Array(4096).fill(255),
            new TextEncoder().encode("<html>not found</html>"),
            changed((b) => b.subarray(0, 7)),
            changed((b) => b.subarray(0, b.length / 2)),
            changed((b) => void new DataView(b.buffer).setBigUint64(0, 2n ** 63n, true)),
            changed((b) => void new DataView(b.buffer).setBigUint64(0, 2n ** 32n - 1n, true)),
            changed((b) => void b.fill(0, 100, 600)),
        ];
        for (const bytes of hostile) await fails(edgekit.Model.load(new Blob([bytes]), options), "invalid_file", /.{20}/);
        await fails(edgekit.Model.load(changed((b) => void (b[b.length - 3] ^= 1)), { ...options, verifyHashes: true }), "invalid_file", /SHA-256|hash|sum/i);
    },

    async "chat.completions.create is OpenAI's"(context) {
        await withModel(context, "text.edge", async (model) => {
            const params = { messages: [{ role: "user", content: "hi" }], max_tokens: 12, temperature: 0.5, seed: 3 };
            const whole = await model.chat.completions.create(params);
            equal(whole.object, "chat.completion", "object");
            equal(whole.choices[0].message.role, "assistant", "role");
            equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens, "usage");
            let text = "";
            let last;
            for await (const chunk of await model.chat.completions.create({ ...params, stream: true })) {
                text += chunk.choices[0].delta.content ?? "";
                last = chunk;
            }
            equal(text, whole.choices[0].message.content, "streamed and whole");
            equal(last.choices[0].finish_reason, whole.choices[0].finish_reason, "finish_reason");
            ok(last.usage.prompt_tokens_details.cached_tokens > 0, "the second time nothing was found in the cache");
            const both = await Promise.all([1, 2].map(() => model.chat.completions.create(params)));
            equal(both[0].choices, both[1].choices, "two requests at once");
            await fails(model.chat.completions.create({ ...params, n: 2 }), "invalid_argument", /no parameter n/);
            const aborted = await model.chat.completions.create(params, { signal: AbortSignal.abort() }).catch((error) => error.name);
            equal(aborted, "AbortError", "an aborted request");
        });
    },

    async "a thousand sessions, cancelled, in the memory of a few"(context) {
        await withModel(context, "text.edge", async (model) => {
            const cycle = async (i) => {
                const session = model.session({ window: 64, kv: "int8" });
                let tokens = 0;
                for await (const event of session.generate("Once", { ignoreEos: true, seed: i }))
                    if (event.kind === "text" && (tokens += 1) === 3) {
                        if (i % 3 === 0) break;
                        await session.cancel();
                    }
                await session.close();
            };
            for (let i = 0; i < 20; ++i) await cycle(i);
            const before = await model.memoryBytes();
            for (let i = 0; i < (context.cycles ?? 1000); ++i) await cycle(i);
            equal(await model.memoryBytes(), before, "bytes of the engine's memory");
        });
    },
};
