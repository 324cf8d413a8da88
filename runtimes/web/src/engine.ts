// The engine as the worker sees it: one model, its sessions, by numbers. edgekit.h's functions under JavaScript's names.

import { download, splitPin } from "./download.js";
import { EdgekitError, messageOf } from "./error.js";
import { readHeader } from "./header.js";
import { Native, type Scope, type Struct } from "./native.js";
import { OpfsSlot } from "./opfs_slot.js";
import { ALIGNMENT, BLOCK_BYTES, HeapSlot } from "./slot.js";
import type { Finish, GenerateOptions, GenerationEvent, LoadOptions, MemoryPlan, Message, ModelInfo, Progress, SessionOptions, Statistics } from "./types.js";
import type { Prompt } from "./types.js";
import { chooseVariant, defaultThreads, supportedVariants, type Variant } from "./variant.js";

export type EngineOptions = Pick<LoadOptions, "threads" | "variant" | "backend" | "cache" | "verifyHashes">;
/** The special ids of a tokenizer, null where it has none. */
export interface TokenizerInfo {
    vocabSize: number;
    bosId: number | null;
    eosId: number | null;
    padId: number | null;
}

const ADD_SPECIAL = 1;
const PARSE_SPECIAL = 2;
const APPEND = 1;
const BACKENDS = ["auto", "cpu", "gpu"];
const KINDS = ["text", "evicted", "done", "prompt"] as const;
const FINISHES: Finish[] = ["eos", "length", "stop", "cancelled", "context_full"];
const CHOICES: Record<string, string[]> = {
    kv: ["auto", "f32", "f16", "int8", "int4"],
    onFull: ["evict", "stop", "error"],
};

const SESSION_OPTIONS = ["window", "sinks", "kv", "onFull", "memoryBudget", "chunk"];
const GENERATE_OPTIONS = [
    ...["maxTokens", "ignoreEos", "seed", "temperature", "topK", "topP", "minP", "typicalP", "repetitionPenalty"],
    ...["presencePenalty", "frequencyPenalty", "penaltyWindow", "speculation"],
];
const PLAN = [
    ...["weightBytes", "tokenizerBytes", "cacheBytes", "activationBytes", "modelBytes", "totalBytes"],
    ...["window", "sinks", "chunk", "kv"],
];
const STATISTICS = [
    ...["promptTokens", "cachedTokens", "generatedTokens", "draftedTokens", "acceptedTokens"],
    ...["prefillMs", "firstTokenMs", "decodeMs"],
];
const INFO = [
    ...["vocabSize", "nLayers", "dModel", "context", "hasTokenizer", "hasChatTemplate", "threads", "fileBytes"],
    ...["weightBytes", "nParameters", "isa", "modelType", "scheme", "metadata", "backend", "relayed"],
];

const MEMBERS: Record<string, string> = { kv: "kv_type", memoryBudget: "memory_budget_bytes", threads: "n_threads" };

function memberOf(name: string): string {
    return MEMBERS[name] ?? name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Writes options into a struct. Throws `invalid_argument` for one that is not known. */
function write(struct: Struct, options: object, known: string[]): void {
    for (const [name, value] of Object.entries(options)) {
        if (value === undefined) continue;
        if (!known.includes(name))
            throw new EdgekitError("invalid_argument", `there is no option ${name}; there are ${known.join(", ")}`);
        const choices = CHOICES[name];
        const index = choices?.indexOf(value as string);
        if (index === -1)
            throw new EdgekitError("invalid_argument", `${name} is ${String(value)}; give one of ${choices!.join(", ")}`);
        struct.set(memberOf(name), index ?? value, name);
    }
}

function read(struct: Struct, names: string[]): Record<string, unknown> {
    const valueOf = (name: string) => {
        const value = struct.get(memberOf(name));
        return CHOICES[name]?.[value as number] ?? value;
    };
    return Object.fromEntries(names.map((name) => [name, valueOf(name)]));
}

function statistics(event: Struct): Statistics {
    const counted = read(event, STATISTICS) as unknown as Omit<Statistics, "prefillTokS" | "decodeTokS">;
    const { promptTokens, cachedTokens, generatedTokens, prefillMs, decodeMs } = counted;
    const rate = (tokens: number, ms: number) => (tokens > 0 && ms > 0 ? (1000 * tokens) / ms : 0);
    return { ...counted, prefillTokS: rate(promptTokens - cachedTokens, prefillMs), decodeTokS: rate(generatedTokens - 1, decodeMs) };
}

function isConversation(prompt: number[] | Message[]): prompt is Message[] {
    return typeof prompt[0] === "object";
}

/** All that a chat template reads, as JSON. */
function chatContext(messages: Message[], tools?: unknown[], templateVariables?: Record<string, unknown>): string {
    return JSON.stringify({ ...templateVariables, messages, tools });
}

function idsOf(bytes: Uint8Array): number[] {
    return Array.from(new Int32Array(bytes.buffer));
}

/** Lets messages in. */
function nextTask(): Promise<void> {
    return new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => {
            port1.close();
            resolve();
        };
        port2.postMessage(null);
    });
}

export class Engine {
    #native!: Native;
    #model = 0;
    readonly #sessions = new Map<number, symbol>(); // each with its latest generation

    /** Instantiates the engine and opens a package: a URL, or the file itself. */
    async load(source: string | Blob, options: EngineOptions, report: (progress: Progress) => void, signal: AbortSignal): Promise<ModelInfo> {
        // A page's own thread must not wait for others.
        const alone = typeof document === "undefined" ? undefined : supportedVariants().find((v) => !v.endsWith("-threads"));
        const variant = chooseVariant(options.variant ?? alone);
        const threads = variant.endsWith("-threads") ? (options.threads ?? defaultThreads()) : 1;
        if (!Number.isInteger(threads) || threads < 1 || threads > 64)
            throw new EdgekitError("invalid_argument", `threads is ${threads}; give 1 to 64`);
        const backend = options.backend ?? "cpu";
        if (!BACKENDS.includes(backend)) throw new EdgekitError("invalid_argument", `backend is ${backend}; give one of ${BACKENDS.join(", ")}`);
        await this.#instantiate(variant, threads, backend !== "cpu");
        const { noGpu } = this.#native;
        if (backend === "gpu" && noGpu !== null) throw new EdgekitError("unsupported", `${noGpu}; use the backend auto or cpu`);
        const { address, size } = await this.#read(source, options.cache ?? true, report, signal);
        return this.#native.turn(async (scope) => {
            const wanted = scope.options("edgekit_model_options");
            wanted.set("n_threads", threads);
            wanted.set("verify_hashes", options.verifyHashes ?? false);
            wanted.set("backend", scope.text(`${noGpu === null ? backend : "cpu"}\0`).address);
            this.#model = await scope.created("edgekit_web_open", address, size, wanted.address);
            const info = this.#info(scope, variant);
            return noGpu && backend === "auto" ? { ...info, relayed: noGpu } : info;
        });
    }

    /** What a session would allocate, from the package's header alone. */
    async canLoad(source: string | Blob, options: SessionOptions): Promise<MemoryPlan> {
        await this.#instantiate(chooseVariant("simd"), 1);
        const { bytes, fileBytes } = await readHeader(await blobOf(source));
        return this.#native.scoped((scope) => {
            const plan = scope.struct("edgekit_memory_plan");
            const header = scope.copy(bytes, ALIGNMENT);
            this.#native.check("edgekit_can_load_header", header, bytes.length, BigInt(fileBytes), this.#sessionOptions(scope, options), plan.address);
            return read(plan, PLAN) as unknown as MemoryPlan;
        });
    }

    async #instantiate(variant: Variant, threads: number, withGpu = false): Promise<void> {
        try {
            this.#native = await Native.load(variant, threads, withGpu);
        } catch (error) {
            if (error instanceof EdgekitError) throw error;
            throw new EdgekitError("io_error", `the engine edgekit-${variant}.wasm cannot be loaded: ${messageOf(error)}; serve the package's dist folder`);
        }
    }

    /** Bytes of the engine's memory, the model's included. */
    memoryBytes(): number {
        return this.#native.bytes.length;
    }

    renderChat(messages: Message[], tools?: unknown[], templateVariables?: Record<string, unknown>): string {
        return this.#native.scoped((scope) => {
            const json = scope.text(chatContext(messages, tools, templateVariables));
            return new TextDecoder().decode(scope.filled(1, "edgekit_model_render_chat", this.#model, json.address, json.size));
        });
    }

    encodeChat(messages: Message[], tools?: unknown[], templateVariables?: Record<string, unknown>): number[] {
        return this.#native.scoped((scope) => {
            const json = scope.text(chatContext(messages, tools, templateVariables));
            return idsOf(scope.filled(4, "edgekit_model_encode_chat", this.#model, json.address, json.size));
        });
    }

    /** Null when the package has no tokenizer. */
    tokenizerInfo(): TokenizerInfo | null {
        const tokenizer = this.#native.call("edgekit_model_tokenizer", this.#model);
        if (!tokenizer) return null;
        return this.#native.scoped((scope) => {
            const info = scope.struct("edgekit_tokenizer_info");
            this.#native.check("edgekit_tokenizer_get_info", tokenizer, info.address);
            const [vocabSize, ...ids] = ["vocab_size", "bos_id", "eos_id", "pad_id"].map((name) => info.get(name) as number);
            const [bosId, eosId, padId] = ids.map((id) => (id < 0 ? null : id)) as [number | null, number | null, number | null];
            return { vocabSize: vocabSize!, bosId, eosId, padId };
        });
    }

    encode(text: string, addSpecial: boolean, parseSpecial: boolean): number[] {
        return this.#native.scoped((scope) => {
            const utf8 = scope.text(text);
            const flags = (addSpecial ? ADD_SPECIAL : 0) | (parseSpecial ? PARSE_SPECIAL : 0);
            return idsOf(scope.filled(4, "edgekit_tokenizer_encode", this.#tokenizer(), utf8.address, utf8.size, flags));
        });
    }

    decode(ids: number[], skipSpecial: boolean): string {
        return this.#native.scoped((scope) =>
            new TextDecoder().decode(
                scope.filled(1, "edgekit_tokenizer_decode", this.#tokenizer(), scope.ids(ids), ids.length, Number(skipSpecial)),
            ),
        );
    }

    tokenBytes(id: number): Uint8Array {
        return this.#native.scoped((scope) => {
            const span = scope.allocate(8); // edgekit_span
            this.#native.check("edgekit_tokenizer_token_bytes", this.#tokenizer(), id, span);
            const [data, size] = [0, 4].map((at) => this.#native.view.getUint32(span + at, true)) as [number, number];
            return this.#native.bytes.slice(data, data + size);
        });
    }

    tokenToId(text: string): number | null {
        return this.#native.scoped((scope) => {
            const utf8 = scope.text(text);
            const id = this.#native.call("edgekit_tokenizer_token_to_id", this.#tokenizer(), utf8.address, utf8.size) | 0;
            return id < 0 ? null : id;
        });
    }

    plan(options: SessionOptions): MemoryPlan {
        return this.#native.scoped((scope) => {
            const plan = scope.struct("edgekit_memory_plan");
            this.#native.check("edgekit_plan", this.#model, this.#sessionOptions(scope, options), plan.address);
            return read(plan, PLAN) as unknown as MemoryPlan;
        });
    }

    createSession(options: SessionOptions): Promise<number> {
        return this.#native.turn(async (scope) =>
            this.#keep(await scope.created("edgekit_session_create", this.#model, this.#sessionOptions(scope, options))),
        );
    }

    async freeSession(session: number): Promise<void> {
        if (this.#sessions.delete(session)) await this.#native.turn(async () => this.#native.call("edgekit_session_free", session));
    }

    forkSession(session: number): Promise<number> {
        return this.#native.turn(async (scope) => this.#keep(await scope.created("edgekit_session_fork", this.#open(session))));
    }

    sessionPlan(session: number): MemoryPlan {
        return this.#native.scoped((scope) => {
            const plan = scope.struct("edgekit_memory_plan");
            this.#native.check("edgekit_session_get_plan", this.#open(session), plan.address);
            return read(plan, PLAN) as unknown as MemoryPlan;
        });
    }

    position(session: number): number {
        return this.#native.call("edgekit_session_position", this.#open(session));
    }

    reset(session: number): Promise<void> {
        return this.#alone(session, () => this.#native.wait("edgekit_session_reset", session));
    }

    async rewind(session: number, count: number): Promise<void> {
        if (!Number.isSafeInteger(count) || count < 0)
            throw new EdgekitError("invalid_argument", `count is ${count}; give a whole number from 0`);
        await this.#alone(session, () => this.#native.wait("edgekit_session_rewind", session, BigInt(count)));
    }

    /** Logits of the last token, or of each. */
    forward(session: number, ids: number[], allLogits: boolean): Promise<Float32Array> {
        return this.#alone(session, async (scope) => {
            const info = scope.struct("edgekit_model_info");
            this.#native.check("edgekit_model_get_info", this.#model, info.address);
            const size = 4 * (info.get("vocab_size") as number) * (allLogits ? ids.length : 1);
            const logits = scope.allocate(size);
            await this.#native.wait("edgekit_session_forward", session, scope.ids(ids), ids.length, Number(allLogits), logits);
            return new Float32Array(this.#native.bytes.slice(logits, logits + size).buffer);
        });
    }

    save(session: number): Promise<Uint8Array> {
        return this.#native.turn(async (scope) => {
            const capacity = this.#native.call("edgekit_session_state_size", this.#open(session));
            const size = scope.allocate(4);
            const state = scope.allocate(capacity);
            await this.#native.wait("edgekit_session_state_write", session, state, capacity, size);
            return this.#native.bytes.slice(state, state + this.#native.view.getUint32(size, true));
        });
    }

    restore(session: number, state: Uint8Array): Promise<void> {
        return this.#alone(session, (scope) => this.#native.wait("edgekit_session_state_read", session, scope.copy(state), state.length));
    }

    cancel(session: number): void {
        this.#native.call("edgekit_session_cancel", this.#open(session));
    }

    /** The events of a generation; messages come in between any two. A newer generation of the session ends it. */
    async *generate(session: number, prompt: Prompt, options: GenerateOptions): AsyncGenerator<GenerationEvent, void> {
        const latest = Symbol();
        await this.#native.turn(async (scope) => {
            await this.#start(scope, this.#open(session), prompt, options);
            this.#sessions.set(session, latest);
        });
        for (;;) {
            await nextTask();
            const goesOn = () => this.#sessions.get(session) === latest;
            const event = await this.#native.turn(async (scope) => (goesOn() ? this.#next(scope, session) : null));
            if (!event || !goesOn()) return;
            yield event;
            if (event.kind === "done") return;
        }
    }

    async #start(scope: Scope, session: number, prompt: Prompt, given: GenerateOptions): Promise<void> {
        const { stop = [], stopIds = [], logitBias = {}, append = false, addSpecialTokens = true, parseSpecial = true, tools, templateVariables, ...others } = given;
        const options = scope.options("edgekit_generate_options", this.#model);
        write(options, others, GENERATE_OPTIONS);
        const put = (member: string, { address, size }: { address: number; size: number }) => {
            options.set(member, address);
            options.set(`${member}_size`, size);
        };
        if (typeof prompt === "string") {
            put("prompt", scope.text(prompt));
        } else if (isConversation(prompt)) {
            put("messages", scope.text(chatContext(prompt, tools, templateVariables)));
        } else {
            options.set("prompt_ids", scope.ids(prompt));
            options.set("prompt_ids_count", prompt.length);
        }
        options.set("prompt_flags", (addSpecialTokens ? ADD_SPECIAL : 0) | (parseSpecial ? PARSE_SPECIAL : 0));
        options.set("prompt_mode", append ? APPEND : 0);
        options.set("prompt_events", true);
        const stops = (typeof stop === "string" ? [stop] : stop).map((s) => scope.text(s));
        options.set("stops", scope.copy(new Uint8Array(Uint32Array.from(stops.flatMap((s) => [s.address, s.size])).buffer)));
        options.set("stops_count", stops.length);
        options.set("stop_ids", scope.ids(stopIds));
        options.set("stop_ids_count", stopIds.length);
        const bias = Object.entries(logitBias);
        options.set("bias_ids", scope.ids(bias.map(([id]) => Number(id))));
        options.set("bias_values", scope.copy(new Uint8Array(Float32Array.from(bias, ([, value]) => value).buffer)));
        options.set("bias_count", bias.length);
        await this.#native.wait("edgekit_session_generate", session, options.address);
    }

    async #next(scope: Scope, session: number): Promise<GenerationEvent> {
        const event = scope.struct("edgekit_event");
        await this.#native.wait("edgekit_session_next", session, event.address);
        const number = (member: string) => event.get(member) as number;
        switch (KINDS[number("kind")]!) {
            case "text":
                return { kind: "text", text: event.get("text") as string, tokens: this.#native.ids(number("tokens"), number("token_count")) };
            case "evicted":
                return { kind: "evicted", first: number("evicted_first"), count: number("evicted_count") };
            case "prompt":
                return { kind: "prompt", done: number("cached_tokens"), total: number("prompt_tokens") };
            case "done":
                return {
                    kind: "done",
                    finish: FINISHES[number("finish")]!,
                    stats: statistics(event),
                    seed: number("seed"),
                    takenBack: number("taken_back"),
                    relayed: event.get("relayed") as string,
                };
        }
    }

    #info(scope: Scope, variant: Variant): ModelInfo {
        const info = scope.struct("edgekit_model_info");
        this.#native.check("edgekit_model_get_info", this.#model, info.address);
        const { metadata, hasTokenizer, hasChatTemplate, ...others } = read(info, INFO);
        return {
            ...others,
            variant,
            hasTokenizer: Boolean(hasTokenizer),
            hasChatTemplate: Boolean(hasChatTemplate),
            metadata: JSON.parse(metadata as string),
        } as ModelInfo;
    }

    #sessionOptions(scope: Scope, given: SessionOptions): number {
        const options = scope.options("edgekit_session_options");
        write(options, given, SESSION_OPTIONS);
        return options.address;
    }

    #tokenizer(): number {
        const tokenizer = this.#native.call("edgekit_model_tokenizer", this.#model);
        if (!tokenizer) throw new EdgekitError("unsupported", "the package has no tokenizer; give prompts as token ids");
        return tokenizer;
    }

    #keep(session: number): number {
        this.#sessions.set(session, Symbol());
        return session;
    }

    #open(session: number): number {
        if (this.#sessions.has(session)) return session;
        throw new EdgekitError("invalid_argument", "the session is closed; make another with model.session()");
    }

    /** A call that ends the generation that runs: its stream then ends too. */
    async #alone<T>(session: number, work: (scope: Scope) => Promise<T>): Promise<T> {
        this.#keep(this.#open(session));
        return this.#native.turn((scope) => work((this.#open(session), scope)));
    }

    async #read(
        source: string | Blob,
        cache: boolean,
        report: (progress: Progress) => void,
        signal: AbortSignal,
    ): Promise<{ address: number; size: number }> {
        const loading = (loaded: number, total: number) => report({ phase: "load", loaded, total });
        const found = await blobOf(source);
        if (typeof found !== "string") return this.#copy(found, loading, signal);
        const { url } = splitPin(found);
        return exclusively(url, async () => {
            const slot = (cache && (await OpfsSlot.open(url))) || new HeapSlot(this.#native);
            try {
                await download(found, slot, { signal, report: (loaded, total) => report({ phase: "download", loaded, total }) });
                return await slot.load(this.#native, loading);
            } finally {
                slot.close();
            }
        });
    }

    async #copy(blob: Blob, loading: (loaded: number, total: number) => void, signal: AbortSignal): Promise<{ address: number; size: number }> {
        const address = this.#native.allocate(blob.size, ALIGNMENT);
        for (let done = 0; done < blob.size; ) {
            const block = new Uint8Array(await blob.slice(done, done + BLOCK_BYTES).arrayBuffer());
            signal.throwIfAborted();
            this.#native.bytes.set(block, address + done);
            done += block.length;
            loading(done, blob.size);
        }
        return { address, size: blob.size };
    }
}

/** Two pages that append to one part would mix it; the second waits for the first. */
function exclusively<T>(url: string, work: () => Promise<T>): Promise<T> {
    const locks = globalThis.navigator?.locks;
    return locks ? (locks.request(`edgekit ${url}`, work) as Promise<T>) : work();
}

interface NodeModules {
    getBuiltinModule(name: "node:fs"): { openAsBlob(url: URL): Promise<Blob> };
}

/** A blob as it is, and what a `file:` URL names; other URLs stay. */
async function blobOf(source: string | Blob): Promise<string | Blob> {
    return typeof source === "string" && source.startsWith("file:") ? openFileUrl(source) : source;
}

async function openFileUrl(url: string): Promise<Blob> {
    const node = (globalThis as { process?: NodeModules }).process;
    if (!node) throw new EdgekitError("io_error", `${url}: a page cannot open file: addresses; pass the File a user picked`);
    try {
        return await node.getBuiltinModule("node:fs").openAsBlob(new URL(url));
    } catch (error) {
        throw new EdgekitError("io_error", `${url}: ${messageOf(error)}`);
    }
}
