// The models in the browser's storage, from page or worker.

import { folderOf, readOrigin, slots } from "./opfs_slot.js";

export interface CachedModel {
    url: string;
    /** Of a finished model, or of the part that is here. */
    bytes: number;
    complete: boolean;
    sha256: string | null;
}

export const cache = {
    /** What is kept for this page's origin. Rejects where there is no such storage. */
    async list(): Promise<CachedModel[]> {
        const models: CachedModel[] = [];
        for await (const folder of (await slots()).values()) {
            if (!(folder instanceof FileSystemDirectoryHandle)) continue;
            const complete = await readOrigin(folder, "model");
            const origin = complete ?? (await readOrigin(folder, "part"));
            if (!origin) continue;
            const file = await (await folder.getFileHandle(complete ? "model" : "part")).getFile();
            models.push({ url: origin.url, bytes: file.size, complete: complete !== null, sha256: origin.sha256 });
        }
        return models;
    },

    /** Deletes what is kept of a URL, if anything. */
    async delete(url: string | URL): Promise<void> {
        const [address] = new URL(url, globalThis.location?.href).href.split("#");
        await (await slots()).removeEntry(folderOf(address!), { recursive: true }).catch((error: unknown) => {
            if ((error as DOMException).name !== "NotFoundError") throw error;
        });
    },
};
