// OpenAI's shape of a chat: what it has that the engine has too; anything else is an error.

import { EdgekitError } from "./error.js";
import type { Model } from "./model.js";
import type { Session } from "./session.js";
import type { Finish, GenerateOptions, GenerationEvent, Message, Statistics } from "./types.js";

export interface ChatParams {
    messages: Message[];
    /** Any name; it is repeated in the answer. */
    model?: string;
    tools?: unknown[];
    stream?: boolean;
    max_tokens?: number;
    max_completion_tokens?: number;
    temperature?: number;
    top_p?: number;
    seed?: number;
    stop?: string | string[];
    presence_penalty?: number;
    frequency_penalty?: number;
    logit_bias?: Record<number, number>;
}

export interface ChatCompletion {
    id: string;
    object: "chat.completion";
    created: number;
    model: string;
    choices: { index: 0; message: { role: "assistant"; content: string }; finish_reason: "stop" | "length" }[];
    usage: Usage;
    /** What OpenAI's shape has no place for. */
    edgekit: { stats: Statistics; evicted_tokens: number };
}

export interface ChatCompletionChunk {
    id: string;
    object: "chat.completion.chunk";
    created: number;
    model: string;
    choices: { index: 0; delta: { role?: "assistant"; content?: string }; finish_reason: "stop" | "length" | null }[];
    /** In the last chunk. */
    usage?: Usage;
    edgekit?: ChatCompletion["edgekit"];
}

export interface Usage {
    prompt_tokens: number;
    completion_tokens: number;
    total_tokens: number;
    prompt_tokens_details: { cached_tokens: number };
}

const OPTIONS: Record<string, keyof GenerateOptions> = {
    max_tokens: "maxTokens",
    max_completion_tokens: "maxTokens",
    temperature: "temperature",
    top_p: "topP",
    seed: "seed",
    stop: "stop",
    presence_penalty: "presencePenalty",
    frequency_penalty: "frequencyPenalty",
    logit_bias: "logitBias",
};
const REASONS: Record<Finish, "stop" | "length"> = { eos: "stop", stop: "stop", cancelled: "stop", length: "length", context_full: "length" };

export class Chat {
    readonly completions: Completions;

    /** @internal */
    constructor(model: Model) {
        this.completions = new Completions(model);
    }
}

export class Completions {
    readonly #model: Model;
    #session: Session | undefined; // one for all: what a conversation repeats is in its cache
    #busy: Promise<void> = Promise.resolve();
    #count = 0;

    /** @internal */
    constructor(model: Model) {
        this.#model = model;
    }

    /**
     * Answers a conversation; requests take turns. Options not given are as in `Session.generate`. Throws
     * `invalid_argument` for a parameter that is not known, `template_error`, and the signal's reason when aborted.
     */
    create(params: ChatParams & { stream: true }, options?: { signal?: AbortSignal }): Promise<AsyncIterable<ChatCompletionChunk>>;
    create(params: ChatParams & { stream?: false }, options?: { signal?: AbortSignal }): Promise<ChatCompletion>;
    async create(
        { messages, model = "edgekit", tools, stream = false, ...params }: ChatParams,
        { signal }: { signal?: AbortSignal } = {},
    ): Promise<AsyncIterable<ChatCompletionChunk> | ChatCompletion> {
        const given: GenerateOptions = { signal, tools };
        for (const [name, value] of Object.entries(params)) {
            const option = OPTIONS[name];
            if (!option)
                throw new EdgekitError("invalid_argument", `there is no parameter ${name}; there are messages, model, tools, stream, ${Object.keys(OPTIONS).join(", ")}`);
            if (value !== undefined && value !== null) Object.assign(given, { [option]: value });
        }
        const chunks = this.#answer(messages, given, { id: `chatcmpl-${++this.#count}`, created: Math.floor(Date.now() / 1000), model });
        return stream ? chunks : collect(chunks);
    }

    async *#answer(messages: Message[], options: GenerateOptions, head: Pick<ChatCompletion, "id" | "created" | "model">): AsyncGenerator<ChatCompletionChunk, void> {
        const chunk = (delta: ChatCompletionChunk["choices"][0]["delta"], reason: "stop" | "length" | null = null): ChatCompletionChunk => ({
            ...head,
            object: "chat.completion.chunk",
            choices: [{ index: 0, delta, finish_reason: reason }],
        });
        let evicted = 0;
        let first = true;
        for await (const event of this.#turn(messages, options)) {
            if (event.kind === "evicted") evicted += event.count;
            if (event.kind === "text" && event.text) {
                yield chunk(first ? { role: "assistant", content: event.text } : { content: event.text });
                first = false;
            }
            if (event.kind === "done") {
                options.signal?.throwIfAborted();
                const { stats } = event;
                yield {
                    ...chunk({}, REASONS[event.finish]),
                    usage: {
                        prompt_tokens: stats.promptTokens,
                        completion_tokens: stats.generatedTokens,
                        total_tokens: stats.promptTokens + stats.generatedTokens,
                        prompt_tokens_details: { cached_tokens: stats.cachedTokens },
                    },
                    edgekit: { stats, evicted_tokens: evicted },
                };
            }
        }
    }

    async *#turn(messages: Message[], options: GenerateOptions): AsyncGenerator<GenerationEvent, void> {
        const before = this.#busy;
        let free = () => {};
        this.#busy = new Promise((resolve) => (free = resolve));
        try {
            await before;
            this.#session ??= this.#model.session();
            yield* this.#session.generate(messages, options);
        } finally {
            free();
        }
    }
}

async function collect(chunks: AsyncIterable<ChatCompletionChunk>): Promise<ChatCompletion> {
    let content = "";
    let last: ChatCompletionChunk | undefined;
    for await (const chunk of chunks) {
        content += chunk.choices[0]!.delta.content ?? "";
        last = chunk;
    }
    const { id, created, model, choices, usage, edgekit } = last!;
    return {
        id,
        object: "chat.completion",
        created,
        model,
        choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: choices[0]!.finish_reason! }],
        usage: usage!,
        edgekit: edgekit!,
    };
}
