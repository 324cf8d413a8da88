// The beginning of a package, read before anything else of it.

import { EdgekitError } from "./error.js";

const MOST_BYTES = 64 << 20; // of a header, that the engine reads

export interface Header {
    /** 8 bytes with the header's length, and the header. */
    bytes: Uint8Array;
    /** Of the whole file. */
    fileBytes: number;
}

/** Reads no further than the header. Throws `io_error`. */
export async function readHeader(source: string | Blob): Promise<Header> {
    const { stream, fileBytes } = typeof source === "string" ? await request(source) : { stream: source.stream(), fileBytes: source.size };
    const reader = stream.getReader();
    let bytes = new Uint8Array(0);
    const enough = () => bytes.length >= 8 && bytes.length >= Math.min(8 + headerLength(bytes), fileBytes, MOST_BYTES);
    while (!enough()) {
        const { done, value } = await reader.read();
        if (done) break;
        const longer = new Uint8Array(bytes.length + value.length);
        longer.set(bytes);
        longer.set(value, bytes.length);
        bytes = longer;
    }
    await reader.cancel();
    return { bytes, fileBytes };
}

async function request(url: string): Promise<{ stream: ReadableStream<Uint8Array>; fileBytes: number }> {
    const response = await fetch(url).catch((error: unknown) => {
        throw new EdgekitError("io_error", `${url} cannot be reached: ${String(error)}`);
    });
    if (!response.ok || !response.body) throw new EdgekitError("io_error", `${url}: the server answers ${response.status} ${response.statusText}`);
    const length = response.headers.get("Content-Length");
    if (!length) throw new EdgekitError("io_error", `${url}: the server does not say how long the file is; let it send Content-Length`);
    return { stream: response.body, fileBytes: Number(length) };
}

function headerLength(bytes: Uint8Array): number {
    return Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
}
