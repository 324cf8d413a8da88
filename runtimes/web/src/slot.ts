// Where a download lies: a finished file, or a part of one, and what is known of each.

import { EdgekitError } from "./error.js";
import type { Native } from "./native.js";

/** What the bytes in a part, or in a finished file, belong to. */
export interface Origin {
    url: string;
    etag: string | null;
    lastModified: string | null;
    size: number | null;
    sha256: string | null;
}

export interface Slot {
    /** Of the finished file; null when there is none. */
    readonly finished: Origin | null;
    /** Of the part. */
    readonly part: Origin | null;
    readonly partBytes: number;
    /** Bytes there is room for. */
    room(): Promise<number>;
    /** Cuts the part at `offset`, and notes whose bytes it holds and will hold. */
    begin(origin: Origin, offset: number): Promise<void>;
    append(bytes: Uint8Array): void;
    /** Bytes [first, first + size) of the part. */
    read(first: number, size: number): Uint8Array;
    /** Deletes the part. */
    drop(): Promise<void>;
    /** The part becomes the finished file. */
    finish(origin: Origin): Promise<void>;
    /** The finished file in the engine's memory, on 64 bytes; the caller owns it. */
    load(native: Native, report: (loaded: number, total: number) => void): Promise<{ address: number; size: number }>;
    close(): void;
}

export const BLOCK_BYTES = 4 << 20;
export const ALIGNMENT = 64;

/** Straight into the engine's memory, where there is no storage to keep anything. */
export class HeapSlot implements Slot {
    readonly finished = null;
    part: Origin | null = null;
    partBytes = 0;
    #address = 0;
    #capacity = 0;

    constructor(readonly native: Native) {}

    room(): Promise<number> {
        return Promise.resolve(Infinity); // the allocation tells
    }

    begin(origin: Origin, offset: number): Promise<void> {
        if (origin.size === null)
            throw new EdgekitError(
                "io_error",
                `${origin.url}: the server does not say how long the file is, and this page has no storage to keep it in; ` +
                    "let the server send Content-Length",
            );
        if (origin.size > this.#capacity) {
            this.close();
            this.#address = this.native.allocate(origin.size, ALIGNMENT);
            this.#capacity = origin.size;
        }
        this.part = origin;
        this.partBytes = offset;
        return Promise.resolve();
    }

    append(bytes: Uint8Array): void {
        if (this.partBytes + bytes.length > this.#capacity)
            throw new EdgekitError("invalid_file", `the server sends more than the ${this.#capacity} bytes it announced`);
        this.native.bytes.set(bytes, this.#address + this.partBytes);
        this.partBytes += bytes.length;
    }

    read(first: number, size: number): Uint8Array {
        return this.native.bytes.slice(this.#address + first, this.#address + first + size);
    }

    drop(): Promise<void> {
        this.part = null;
        this.partBytes = 0;
        return Promise.resolve();
    }

    finish(): Promise<void> {
        return Promise.resolve();
    }

    load(): Promise<{ address: number; size: number }> {
        const loaded = { address: this.#address, size: this.partBytes };
        this.#address = 0;
        return Promise.resolve(loaded);
    }

    close(): void {
        if (this.#address) this.native.free(this.#address);
        this.#address = this.#capacity = 0;
    }
}
