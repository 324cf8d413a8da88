// One file by URL, resumable, checked and atomic. The rules are those of every edgekit binding; the repository's
// tests/golden/download.json states them as exchanges with a server.

import { EdgekitError, messageOf } from "./error.js";
import { Sha256 } from "./sha256.js";
import { BLOCK_BYTES, type Origin, type Slot } from "./slot.js";

const ATTEMPTS = 5;

export interface DownloadOptions {
    report?: (loaded: number, total: number) => void;
    signal?: AbortSignal;
    /** Before the second attempt; doubled each time. */
    retryMs?: number;
}

/** The connection broke; the part may be continued. */
class Interrupted extends Error {
    /** There was no answer at all. */
    unanswered = false;
}

/** Fetches `address` (a URL, with `#sha256=` when its sum is known) into `slot`. Throws `io_error`, `invalid_file`, the signal's reason. */
export async function download(address: string, slot: Slot, options: DownloadOptions = {}): Promise<void> {
    const { url, pinned } = splitPin(address);
    const have = slot.finished;
    if (have && pinned && have.sha256 === pinned) return;
    let plain = false;
    for (let failures = 0; ; ) {
        const before = slot.partBytes;
        try {
            return await attempt(url, slot, have, pinned, options, plain);
        } catch (error) {
            options.signal?.throwIfAborted();
            if (!(error instanceof Interrupted)) throw error;
            if (have && !pinned) return; // the server cannot be reached: what is here will do
            // Another origin's server may refuse the question about a part (If-Range is no simple header): ask for the whole in turns.
            plain = error.unanswered && !plain && foreign(url);
            failures = slot.partBytes > before ? 1 : failures + 1;
            if (failures >= ATTEMPTS)
                throw new EdgekitError("io_error", `${url}: ${error.message}; try again: the download continues where it stopped`);
            await new Promise((resolve) => setTimeout(resolve, (options.retryMs ?? 500) * 2 ** (failures - 1)));
        }
    }
}

/** The URL without its fragment, and the sum that the fragment pins. Throws `invalid_argument`. */
export function splitPin(address: string): { url: string; pinned: string | null } {
    const at = address.indexOf("#");
    if (at < 0) return { url: address, pinned: null };
    const match = /^#sha256=([0-9a-fA-F]{64})$/.exec(address.slice(at));
    if (!match)
        throw new EdgekitError(
            "invalid_argument",
            `the URL ends with ${address.slice(at)}; a pinned sum reads #sha256= and 64 hexadecimal digits`,
        );
    return { url: address.slice(0, at), pinned: match[1]!.toLowerCase() };
}

/** A weak ETag does not promise equal bytes, so it cannot join two halves. */
function validator(origin: Origin | null): string | null {
    if (!origin) return null;
    return origin.etag && !origin.etag.startsWith("W/") ? origin.etag : origin.lastModified;
}

function foreign(url: string): boolean {
    const own = globalThis.location?.origin;
    return own !== undefined && new URL(url).origin !== own;
}

/** One request, from the first missing byte to the finished file; `plain`: for the whole of it, whatever is here. */
async function attempt(
    url: string,
    slot: Slot,
    have: Origin | null,
    pinned: string | null,
    options: DownloadOptions,
    plain = false,
): Promise<void> {
    const origin = slot.part?.url === url ? slot.part : null;
    const joint = validator(origin);
    let offset = joint && !plain ? slot.partBytes : 0;
    const headers: Record<string, string> = { "Accept-Encoding": "identity" };
    if (offset && joint) Object.assign(headers, { Range: `bytes=${offset}-`, "If-Range": joint });
    else if (have?.etag && !(pinned && pinned !== have.sha256)) headers["If-None-Match"] = have.etag;

    let response: Response;
    try {
        response = await fetch(url, { headers, cache: "no-store", signal: options.signal });
    } catch (error) {
        const unreachable = new Interrupted(`cannot reach the server (${messageOf(error)}), or it does not allow this page to read the file (CORS)`);
        unreachable.unanswered = true;
        throw unreachable;
    }
    const { status } = response;
    if (status === 304) return;
    if (status === 416 && offset) {
        // The file is shorter now, or the part is all of it: find out from zero.
        await slot.drop();
        return attempt(url, slot, null, pinned, options);
    }
    if ([408, 425, 429].includes(status) || status >= 500) throw new Interrupted(`the server answered ${status}`);
    if (!response.ok || !response.body) throw new EdgekitError("io_error", `${url}: the server answered ${status}; check the address`);

    const { first, total } = extent(response, url);
    if (offset && status === 206 && (first !== offset || (origin?.size != null && origin.size !== total))) {
        await response.body.cancel();
        await slot.drop(); // not the bytes that were asked for: nothing here can be joined to them
        return attempt(url, slot, have, pinned, options);
    }
    if (first !== 0 && first !== offset)
        throw new EdgekitError("io_error", `${url}: asked for the whole file, the server sent bytes from ${first}`);
    offset = first;

    const announced = pinned ?? digestOf(response) ?? (offset ? (origin?.sha256 ?? null) : null);
    const { headers: answered } = response;
    const found: Origin = { url, etag: answered.get("ETag"), lastModified: answered.get("Last-Modified"), size: total, sha256: announced };
    const needed = (total ?? 0) - offset;
    const room = await slot.room();
    if (needed > room)
        throw new EdgekitError("io_error", `${url}: ${needed} bytes are needed, ${room} are free in the browser's storage; make room`);
    await slot.begin(found, offset);

    const hash = new Sha256();
    for (let at = 0; at < offset; at += BLOCK_BYTES) hash.update(slot.read(at, Math.min(BLOCK_BYTES, offset - at)));
    await receive(response.body, total, slot, hash, options);

    const sha256 = hash.hex();
    const expected = announced ?? (await sumBeside(url, options.signal));
    if (expected && sha256 !== expected) {
        await slot.drop();
        throw new EdgekitError(
            "invalid_file",
            `${url}: the downloaded bytes have SHA-256 ${sha256}, expected ${expected}; they were deleted. The file on the server ` +
                "changed or the transfer was damaged: check the sum, try again",
        );
    }
    await slot.finish({ ...found, sha256 });
}

async function receive(body: ReadableStream<Uint8Array>, total: number | null, slot: Slot, hash: Sha256, options: DownloadOptions): Promise<void> {
    const reader = body.getReader();
    try {
        for (;;) {
            let block: Uint8Array | undefined;
            try {
                ({ value: block } = await reader.read());
            } catch (error) {
                throw new Interrupted(`the connection broke after ${slot.partBytes} bytes (${messageOf(error)})`);
            }
            if (!block) break;
            slot.append(block);
            hash.update(block);
            options.report?.(slot.partBytes, total ?? 0);
        }
    } finally {
        reader.cancel().catch(() => undefined);
    }
    if (total === null || slot.partBytes === total) return;
    if (slot.partBytes < total) throw new Interrupted(`the connection broke after ${slot.partBytes} of ${total} bytes`);
    throw new EdgekitError("invalid_file", `the server sent ${slot.partBytes} bytes and had announced ${total}`);
}

/** The first byte sent, and the size of the whole file, null when the server does not say. */
function extent(response: Response, url: string): { first: number; total: number | null } {
    const length = response.headers.get("Content-Length");
    if (response.status !== 206) {
        // The length of a compressed answer is not the file's.
        const plain = (response.headers.get("Content-Encoding") ?? "identity") === "identity";
        return { first: 0, total: plain && length && /^\d+$/.test(length) ? Number(length) : null };
    }
    const range = response.headers.get("Content-Range");
    const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range ?? "");
    if (!match) throw new EdgekitError("io_error", `${url}: the server sent a part with Content-Range ${range}`);
    return { first: Number(match[1]), total: match[3] === "*" ? null : Number(match[3]) };
}

/** RFC 9530: `Repr-Digest: sha-256=:BASE64:` is the sum of the whole file. */
function digestOf(response: Response): string | null {
    const match = /sha-256=:([A-Za-z0-9+/=]+):/.exec(response.headers.get("Repr-Digest") ?? "");
    return match && Array.from(atob(match[1]!), (c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}

async function sumBeside(url: string, signal?: AbortSignal): Promise<string | null> {
    const beside = new URL(url);
    beside.pathname += ".sha256";
    try {
        const response = await fetch(beside, { signal });
        const match = response.ok && /^\s*([0-9a-fA-F]{64})\b/.exec((await response.text()).slice(0, 4096));
        return match ? match[1]!.toLowerCase() : null;
    } catch {
        return null;
    }
}
