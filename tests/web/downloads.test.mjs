// Downloads in Node, into a slot that is memory.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { dictate, replay } from "./downloads.mjs";
import { answerWith, serve } from "./server.mjs";

const golden = JSON.parse(readFileSync(new URL("../golden/download.json", import.meta.url)));

function memorySlot() {
    let bytes = new Uint8Array(0);
    let file = null;
    return {
        finished: null,
        part: null,
        get partBytes() {
            return bytes.length;
        },
        room: () => Promise.resolve(Infinity),
        async begin(origin, offset) {
            this.part = origin;
            bytes = bytes.slice(0, offset);
        },
        append(more) {
            bytes = Uint8Array.of(...bytes, ...more);
        },
        read: (first, size) => bytes.slice(first, first + size),
        async drop() {
            this.part = null;
            bytes = new Uint8Array(0);
        },
        async finish(origin) {
            file = bytes;
            await this.drop();
            this.finished = origin;
        },
        async load(native) {
            native.bytes.set(file);
        },
        close() {},
    };
}

let server;
before(async () => (server = await serve({ isolated: false })));
after(() => server.close());

for (const [i, c] of golden.cases.entries())
    test(`download: ${c.name}`, async () => {
        const path = `/models/${i}é.edge`;
        const { complaints, exchanges } = dictate(golden, c, server, path, answerWith);
        const slot = memorySlot();
        assert.equal(await replay(golden, c, server.url + encodeURI(path), async () => slot), "");
        assert.deepEqual({ complaints, exchanges }, { complaints: [], exchanges: [] });
    });
