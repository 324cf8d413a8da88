import type { Variant } from "./variant.js";

export type KvType = "auto" | "f32" | "f16" | "int8" | "int4";
export type OnFull = "evict" | "stop" | "error";
export type Finish = "eos" | "length" | "stop" | "cancelled" | "context_full";

export interface Progress {
    /** `download`: from the network into the cache; `load`: from the cache or a file into memory. */
    phase: "download" | "load";
    /** Bytes done. */
    loaded: number;
    /** Bytes in all; 0 when the server does not say. */
    total: number;
}

export interface LoadOptions {
    onProgress?: (progress: Progress) => void;
    /** Ends loading; what is downloaded stays for the next time. `load` then rejects with the signal's reason. */
    signal?: AbortSignal;
    /** Compute threads, where threads can be had; by default half the processor's, at least 2 and at most 8. */
    threads?: number;
    /** The build of the engine; by default the fastest that runs here. */
    variant?: Variant;
    /** What computes: `cpu` (WebAssembly), `gpu` (WebGPU), or `auto`, WebGPU where it computes what WebAssembly does, and faster, which is
     * tried when the model is loaded. A GPU holds the weights a second time. Default `cpu`. */
    backend?: "auto" | "cpu" | "gpu";
    /** `false` computes in the calling thread, which then does nothing else meanwhile. Default `true`. */
    worker?: boolean;
    /** `false` leaves the browser's storage alone. Default `true`. */
    cache?: boolean;
    /** Check the package's own SHA-256 sums before use. Default `false`: a download is checked anyway. */
    verifyHashes?: boolean;
}

export interface ModelInfo {
    vocabSize: number;
    nLayers: number;
    dModel: number;
    /** Positions the model was trained for. */
    context: number;
    hasTokenizer: boolean;
    hasChatTemplate: boolean;
    threads: number;
    fileBytes: number;
    /** Of the tensors the decoder reads. */
    weightBytes: number;
    nParameters: number;
    isa: string;
    modelType: string;
    scheme: string;
    variant: Variant;
    /** What computes, `cpu` or `gpu`, when the model was loaded. */
    backend: string;
    /** Why that is not what was asked for; empty: it is. */
    relayed: string;
    /** The package's own metadata: spec, quality card, licence. */
    metadata: Record<string, unknown>;
}

export interface SessionOptions {
    /** Recent positions kept; default: the model's context, at most 4096, or what fits the budget. */
    window?: number;
    /** First positions kept for ever; default 4, of a conversation its system prompt too. */
    sinks?: number;
    kv?: KvType;
    onFull?: OnFull;
    /** Bytes, for everything a session allocates; window and kv are chosen to fit. */
    memoryBudget?: number;
    /** Tokens per prefill step. */
    chunk?: number;
}

/** What a model and a session of it allocate, in bytes: `totalBytes` = cache + activations + model, which is once
 * for all sessions. */
export interface MemoryPlan {
    weightBytes: number;
    tokenizerBytes: number;
    cacheBytes: number;
    activationBytes: number;
    modelBytes: number;
    totalBytes: number;
    window: number;
    sinks: number;
    chunk: number;
    kv: KvType;
}

/** As `maxTokens`: until the model ends its text, or the generation is cancelled. */
export const ENDLESS = 2 ** 32 - 1;

/** Sampling that is not given is what the package's makers advise. */
export interface GenerateOptions {
    /** Ends the generation soon, with a `done` event whose `finish` is `cancelled`. */
    signal?: AbortSignal;
    /** Default: as many as the session holds. */
    maxTokens?: number;
    ignoreEos?: boolean;
    /** Default: a fresh one each time, which the `done` event tells. */
    seed?: number;
    /** 0: greedy. */
    temperature?: number;
    topK?: number;
    topP?: number;
    minP?: number;
    typicalP?: number;
    repetitionPenalty?: number;
    presencePenalty?: number;
    frequencyPenalty?: number;
    penaltyWindow?: number;
    /** Token id -> what is added to its logit; -Infinity forbids it. */
    logitBias?: Record<number, number>;
    /** The text ends before the first of these that appears. */
    stop?: string | string[];
    /** Token ids that end the text. */
    stopIds?: number[];
    /** Prompt-lookup draft length: -1 chosen by the engine, 0 off, at most 7. */
    speculation?: number;
    /** The prompt follows what the session holds; by default it is the whole text so far. */
    append?: boolean;
    /** Add what the tokenizer adds to a text (BOS ...). Default `true`. */
    addSpecialTokens?: boolean;
    /** Recognise special tokens written in a text. Default `true`; in messages they never are. */
    parseSpecial?: boolean;
    /** For a conversation: the tools that its template tells the model of. */
    tools?: unknown[];
    /** For a conversation: what else its template reads, such as `enable_thinking`. */
    templateVariables?: Record<string, unknown>;
}

export interface Statistics {
    promptTokens: number;
    /** Of the prompt's, found in the cache and not computed. */
    cachedTokens: number;
    generatedTokens: number;
    draftedTokens: number;
    acceptedTokens: number;
    prefillMs: number;
    /** From the beginning to the first token. */
    firstTokenMs: number;
    decodeMs: number;
    /** Tokens of the prompt computed per second, cached ones not counted; 0 when there were none. */
    prefillTokS: number;
    /** Tokens per second after the first, which prefill pays for; 0 when there was one at most. */
    decodeTokS: number;
}

/** Whole code points, possibly none yet, and the tokens sampled since the last event. */
export interface TextEvent {
    kind: "text";
    text: string;
    tokens: number[];
}
/** Positions [first, first + count) left the cache: the model no longer sees them. */
export interface EvictedEvent {
    kind: "evicted";
    first: number;
    count: number;
}
/** `done` of the prompt's `total` tokens are in. */
export interface PromptEvent {
    kind: "prompt";
    done: number;
    total: number;
}
/** The last event of a generation. */
export interface DoneEvent {
    kind: "done";
    finish: Finish;
    stats: Statistics;
    /** Draws the same text again. */
    seed: number;
    /** When `finish` is `stop`: tokens of the stop that left the cache again, so that it holds what the text says. */
    takenBack: number;
    /** Why the processor went on with a text of the GPU; empty: it did not. */
    relayed: string;
}
export type GenerationEvent = TextEvent | EvictedEvent | PromptEvent | DoneEvent;

/** What a generation goes on from: a text, token ids, or a conversation. */
export type Prompt = string | number[] | Message[];

/** One message of a conversation; a template may read more members. */
export interface Message {
    role: string;
    content: unknown;
    [member: string]: unknown;
}
