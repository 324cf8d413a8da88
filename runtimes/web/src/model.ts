import { Chat } from "./chat.js";
import { Connection } from "./connection.js";
import type { TokenizerInfo } from "./engine.js";
import { EdgekitError } from "./error.js";
import { Session } from "./session.js";
import type { GenerateOptions, LoadOptions, MemoryPlan, Message, ModelInfo, Progress, SessionOptions } from "./types.js";

type Source = string | URL | Blob | ArrayBuffer | Uint8Array<ArrayBuffer>;
type ChatOptions = Pick<GenerateOptions, "tools" | "templateVariables">;

const LOAD_OPTIONS = ["threads", "variant", "backend", "cache", "verifyHashes"];

/** Text to token ids and back. */
export class Tokenizer {
    readonly vocabSize: number;
    /** Null where the tokenizer has none. */
    readonly bosId: number | null;
    /** The first of the model's end-of-sequence ids. */
    readonly eosId: number | null;
    readonly padId: number | null;
    readonly #connection: Connection;

    /** @internal */
    constructor(connection: Connection, info: TokenizerInfo) {
        this.#connection = connection;
        ({ vocabSize: this.vocabSize, bosId: this.bosId, eosId: this.eosId, padId: this.padId } = info);
    }

    /** `addSpecialTokens`: add BOS and the like; `parseSpecial`: recognise special tokens written in the text. */
    encode(text: string, { addSpecialTokens = true, parseSpecial = true } = {}): Promise<number[]> {
        return this.#connection.call("encode", text, addSpecialTokens, parseSpecial);
    }

    /** Bytes that are not UTF-8 become U+FFFD. */
    decode(ids: number[], { skipSpecialTokens = false } = {}): Promise<string> {
        return this.#connection.call("decode", ids, skipSpecialTokens);
    }

    /** The raw bytes of one token, perhaps a part of a character. */
    tokenBytes(id: number): Promise<Uint8Array> {
        return this.#connection.call("tokenBytes", id);
    }

    /** The id of a token's exact text, or null. */
    tokenToId(text: string): Promise<number | null> {
        return this.#connection.call("tokenToId", text);
    }
}

/** A package, in the memory of an engine of its own. */
export class Model {
    /** Null when the package has none. */
    readonly tokenizer: Tokenizer | null;
    /** OpenAI's `chat.completions.create`. */
    readonly chat: Chat;
    readonly #connection: Connection;

    private constructor(
        connection: Connection,
        readonly info: ModelInfo,
        tokenizer: TokenizerInfo | null,
    ) {
        this.#connection = connection;
        this.tokenizer = tokenizer && new Tokenizer(connection, tokenizer);
        this.chat = new Chat(this);
    }

    /**
     * Loads a package: from a URL (kept in the browser's storage; `#sha256=` at its end pins its sum), from a File
     * or Blob, or from bytes. In Node a `file:` URL or a path serves too.
     *
     * Throws EdgekitError: `invalid_file`, `io_error`, `out_of_memory`, `unsupported`; the signal's reason when aborted.
     */
    static async load(source: Source, options: LoadOptions = {}): Promise<Model> {
        const { onProgress, signal, worker = true, ...others } = options;
        for (const name of Object.keys(others))
            if (!LOAD_OPTIONS.includes(name))
                throw new EdgekitError("invalid_argument", `there is no option ${name}; there are onProgress, signal, worker, ${LOAD_OPTIONS.join(", ")}`);
        signal?.throwIfAborted();
        const connection = worker ? Connection.spawn() : await Connection.here();
        const abort = () => connection.abortLoading();
        signal?.addEventListener("abort", abort, { once: true });
        try {
            const info = await connection.load(sourceOf(source), others, (p) => onProgress?.(p as Progress));
            return new Model(connection, info, await connection.call("tokenizerInfo"));
        } catch (error) {
            connection.close();
            signal?.throwIfAborted();
            throw error;
        } finally {
            signal?.removeEventListener("abort", abort);
        }
    }

    /**
     * What `session` with the same options would allocate, before the package is loaded: no more of it than its header
     * is read. Throws `over_budget`, `invalid_file`, `io_error`.
     */
    static async canLoad(source: Source, options: SessionOptions = {}): Promise<MemoryPlan> {
        const connection = Connection.spawn();
        try {
            return await connection.call("canLoad", sourceOf(source), options);
        } finally {
            connection.close();
        }
    }

    /** A new conversation, with everything it will ever need allocated. Its first call throws what went wrong: `over_budget`, `out_of_memory`. */
    session(options: SessionOptions = {}): Session {
        return new Session(this.#connection, this.#connection.call("createSession", options));
    }

    /** What `session` with the same options would allocate. Throws `over_budget`. */
    plan(options: SessionOptions = {}): Promise<MemoryPlan> {
        return this.#connection.call("plan", options);
    }

    /** The text that the model's chat template makes of messages. Throws `template_error`, `unsupported` without a template. */
    renderChat(messages: Message[], { tools, templateVariables }: ChatOptions = {}): Promise<string> {
        return this.#connection.call("renderChat", messages, tools, templateVariables);
    }

    /** The same as token ids. Only the template's own text becomes special tokens, what the messages say never does. */
    encodeChat(messages: Message[], { tools, templateVariables }: ChatOptions = {}): Promise<number[]> {
        return this.#connection.call("encodeChat", messages, tools, templateVariables);
    }

    /** Bytes that the engine has of the browser's memory, the model's included; it grows and never shrinks until `close`. */
    memoryBytes(): Promise<number> {
        return this.#connection.call("memoryBytes");
    }

    /** Ends the engine and gives all its memory back; running generations throw. */
    close(): void {
        this.#connection.close();
    }
}

function sourceOf(source: Source): string | Blob {
    if (source instanceof Blob) return source;
    if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return new Blob([source]);
    const cwd = (globalThis as { process?: { cwd?(): string } }).process?.cwd?.();
    const base = globalThis.location?.href ?? (cwd && `file://${cwd}/`);
    try {
        return new URL(source, base).href;
    } catch {
        throw new EdgekitError("invalid_argument", `${String(source)} is no URL`);
    }
}
