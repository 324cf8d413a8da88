// What page and engine tell each other.

import type { ErrorCode } from "./error.js";

/** Events that the engine may be ahead of whoever reads them. */
export const AHEAD = 32;

/** A worker's first message. */
export interface Start {
    port: MessagePort;
    /** `locations.wasm`, absolute. */
    wasm?: string;
}

export type Request =
    | { id: number; method: string; args: unknown[] }
    | { id: number; taken: number } // so many events of a stream were read; Infinity: send what is left, nobody waits
    | { abort: true }; // loading

export type Answer =
    | { id: number; value: unknown }
    | { id: number; event: unknown }
    | { id: number; error: { code: ErrorCode; message: string; neededBytes?: number } };
