import type { Connection } from "./connection.js";
import type { GenerateOptions, GenerationEvent, MemoryPlan, Prompt } from "./types.js";

// A session that nobody holds any more gives its memory back.
const dropped = new FinalizationRegistry<() => void>((free) => free());

/** One conversation: a cache of fixed size and a sampler. Made by `model.session()`. */
export class Session {
    readonly #connection: Connection;
    readonly #handle: Promise<number>;

    /** @internal */
    constructor(connection: Connection, handle: Promise<number>) {
        this.#connection = connection;
        this.#handle = handle;
        handle.catch(() => {}); // told by whatever is called first
        dropped.register(this, () => void handle.then((session) => connection.send("freeSession", session), () => {}), this);
    }

    /**
     * Continues `prompt`: a text, token ids, or the messages of a conversation for the model's chat template.
     * What the session already holds of it is not computed again. The events end with `done`; leaving the loop
     * earlier, or the signal, ends the generation; so does the session's next generation, without a `done`.
     *
     * Throws EdgekitError: `invalid_argument`, `context_full` (with `onFull: "error"`), `template_error`.
     */
    async *generate(prompt: Prompt, options: GenerateOptions = {}): AsyncGenerator<GenerationEvent, void> {
        const { signal, ...others } = options;
        const session = await this.#handle;
        const cancel = () => this.#connection.send("cancel", session);
        const events = this.#connection.stream(session, prompt, others);
        const first = events.next();
        signal?.addEventListener("abort", cancel, { once: true });
        if (signal?.aborted) cancel();
        let done = false;
        try {
            for (let { value } = await first; value; { value } = await events.next()) {
                done = (value as GenerationEvent).kind === "done";
                yield value as GenerationEvent;
            }
            done = true;
        } finally {
            signal?.removeEventListener("abort", cancel);
            if (!done) cancel();
        }
    }

    /** Ends the running generation soon. The session stays usable. */
    async cancel(): Promise<void> {
        this.#connection.send("cancel", await this.#handle);
    }

    /** Tokens processed since the start, evicted ones included. */
    async position(): Promise<number> {
        return this.#connection.call("position", await this.#handle);
    }

    /** What this session allocated. */
    async plan(): Promise<MemoryPlan> {
        return this.#connection.call("sessionPlan", await this.#handle);
    }

    /** Forgets everything; allocates nothing. */
    async reset(): Promise<void> {
        await this.#connection.call("reset", await this.#handle);
    }

    /** Takes the last `count` tokens back. Throws `invalid_argument` when the cache no longer holds what is needed. */
    async rewind(count: number): Promise<void> {
        await this.#connection.call("rewind", await this.#handle, count);
    }

    /** A second session with the same contents. */
    fork(): Session {
        return new Session(this.#connection, this.#handle.then((session) => this.#connection.call("forkSession", session)));
    }

    /** Appends tokens; the logits of the last one, float32 [vocabSize], or of each, [ids.length * vocabSize]. */
    async forward(ids: number[], { allLogits = false } = {}): Promise<Float32Array> {
        return this.#connection.call("forward", await this.#handle, ids, allLogits);
    }

    /** The session's state, which `restore` takes on any platform with the same model. */
    async save(): Promise<Uint8Array> {
        return this.#connection.call("save", await this.#handle);
    }

    async restore(state: Uint8Array): Promise<void> {
        await this.#connection.call("restore", await this.#handle, state);
    }

    /** Gives the memory back at once; a running generation ends without a `done` event. */
    async close(): Promise<void> {
        dropped.unregister(this);
        this.#connection.send("freeSession", await this.#handle);
    }
}
