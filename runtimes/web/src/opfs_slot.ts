// A slot in the origin private file system: a folder for each URL, with `model`, `part`, and what is known of them.

import { EdgekitError, messageOf } from "./error.js";
import type { Native } from "./native.js";
import { Sha256 } from "./sha256.js";
import { ALIGNMENT, BLOCK_BYTES, type Origin, type Slot } from "./slot.js";

const FOLDER = "edgekit";

interface Movable {
    move(name: string): Promise<void>;
}

/** The folder of all slots. Throws where there is no such storage (a private window, Node). */
export async function slots(): Promise<FileSystemDirectoryHandle> {
    return (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
}

/** The name of a URL's folder. */
export function folderOf(url: string): string {
    return new Sha256().update(new TextEncoder().encode(url)).hex().slice(0, 32);
}

export async function readOrigin(folder: FileSystemDirectoryHandle, name: string): Promise<Origin | null> {
    try {
        const file = await (await folder.getFileHandle(`${name}.json`)).getFile();
        return JSON.parse(await file.text()) as Origin;
    } catch {
        return null;
    }
}

async function writeOrigin(folder: FileSystemDirectoryHandle, name: string, origin: Origin): Promise<void> {
    const handle = await openFile(folder, `${name}.json`, true);
    handle.truncate(0);
    handle.write(new TextEncoder().encode(JSON.stringify(origin)));
    handle.flush();
    handle.close();
}

/** The file for this worker alone. A page that just went away may hold it a moment longer. */
async function openFile(folder: FileSystemDirectoryHandle, name: string, create = false): Promise<FileSystemSyncAccessHandle> {
    const file = await folder.getFileHandle(name, { create });
    for (let left = 20; ; --left) {
        try {
            return await file.createSyncAccessHandle();
        } catch (error) {
            if (!left || (error as DOMException).name !== "NoModificationAllowedError")
                throw new EdgekitError("io_error", `the cached file cannot be opened (${messageOf(error)}); close other pages that use it`);
            await new Promise((resolve) => setTimeout(resolve, 100));
        }
    }
}

async function remove(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
    await folder.removeEntry(name).catch(() => undefined);
}

export class OpfsSlot implements Slot {
    finished: Origin | null = null;
    part: Origin | null = null;
    readonly #folder: FileSystemDirectoryHandle;
    #handle: FileSystemSyncAccessHandle | null = null;
    #buffer = new Uint8Array(0);

    private constructor(folder: FileSystemDirectoryHandle) {
        this.#folder = folder;
    }

    /** The slot of a URL, or null where files cannot be written like this: outside a worker, in some private windows. */
    static async open(url: string): Promise<OpfsSlot | null> {
        if (!("createSyncAccessHandle" in (globalThis.FileSystemFileHandle?.prototype ?? {}))) return null;
        let folder: FileSystemDirectoryHandle;
        try {
            folder = await (await slots()).getDirectoryHandle(folderOf(url), { create: true });
        } catch {
            return null;
        }
        const slot = new OpfsSlot(folder);
        slot.finished = await readOrigin(folder, "model");
        slot.part = await readOrigin(folder, "part");
        slot.#handle = await openFile(folder, "part", true);
        return slot;
    }

    get partBytes(): number {
        return this.#handle?.getSize() ?? 0;
    }

    async room(): Promise<number> {
        const { quota, usage } = await navigator.storage.estimate();
        return quota === undefined ? Infinity : quota - (usage ?? 0);
    }

    async begin(origin: Origin, offset: number): Promise<void> {
        await writeOrigin(this.#folder, "part", origin);
        this.part = origin;
        this.#handle!.truncate(offset);
    }

    append(bytes: Uint8Array<ArrayBuffer>): void {
        let written: number;
        try {
            written = this.#handle!.write(bytes, { at: this.partBytes });
        } catch (error) {
            throw new EdgekitError("io_error", `the browser's storage refuses more (${messageOf(error)}); make room and try again`);
        }
        if (written === bytes.length) return;
        // Chromium gives its error code for a length, and estimates ten gigabytes of room whatever there is.
        throw new EdgekitError("io_error", `the browser's storage is full after ${this.partBytes} bytes; make room and try again: the download continues`);
    }

    read(first: number, size: number): Uint8Array {
        if (this.#buffer.length < size) this.#buffer = new Uint8Array(size);
        const got = this.#handle!.read(this.#buffer.subarray(0, size), { at: first });
        return this.#buffer.subarray(0, got);
    }

    async drop(): Promise<void> {
        this.#handle!.truncate(0);
        this.part = null;
        await remove(this.#folder, "part.json");
    }

    async finish(origin: Origin): Promise<void> {
        this.#handle!.flush();
        this.close();
        for (const name of ["model.json", "model"]) await remove(this.#folder, name);
        await ((await this.#folder.getFileHandle("part")) as unknown as Movable).move("model");
        await writeOrigin(this.#folder, "model", origin);
        await remove(this.#folder, "part.json");
        this.finished = origin;
        this.part = null;
    }

    async load(native: Native, report: (loaded: number, total: number) => void): Promise<{ address: number; size: number }> {
        this.close();
        this.#handle = await openFile(this.#folder, "model");
        const size = this.#handle.getSize();
        const address = native.allocate(size, ALIGNMENT);
        for (let done = 0; done < size; ) {
            const block = this.read(done, Math.min(BLOCK_BYTES, size - done));
            if (block.length === 0) {
                native.free(address);
                throw new EdgekitError("io_error", `the cached file ends after ${done} of ${size} bytes; clear the cache and try again`);
            }
            native.bytes.set(block, address + done);
            done += block.length;
            report(done, size);
        }
        return { address, size };
    }

    close(): void {
        this.#handle?.close();
        this.#handle = null;
    }
}
