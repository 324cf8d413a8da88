// Replays tests/golden/download.json: `replay` in Node or in a browser's worker, `dictate` at the server.

import { download } from "../../runtimes/web/dist/download.js";

export function bodyOf(version, first, last) {
    return Uint8Array.from({ length: last - first }, (_, i) => (version === "a" ? (31 * (first + i) + 7) % 251 : (17 * (first + i) + 3) % 241));
}

const ERRORS = {
    wrong_hash: ["invalid_file", /SHA-256/],
    no_space: ["io_error", /are free/],
    refused: ["io_error", /404/],
    interrupted: ["io_error", /cannot reach|answered 503/],
};

/** Runs one case against `url`; `open()` opens its slot, which is empty at first. Returns what is wrong, or "". */
export async function replay(golden, c, url, open) {
    const { size, sha256 } = golden;
    let slot = await open();
    const { part, file } = c.before ?? {};
    if (file) {
        const origin = { url, etag: file.etag, lastModified: null, size, sha256: sha256[file.version] };
        await slot.begin(origin, 0);
        slot.append(bodyOf(file.version, 0, size));
        await slot.finish(origin);
    }
    if (part) {
        await slot.begin({ url, etag: part.etag, lastModified: part.last_modified, size: part.size, sha256: null }, 0);
        slot.append(bodyOf(part.version, 0, part.bytes));
    }
    slot.close();

    slot = await open();
    if ("free_bytes" in c) slot.room = () => Promise.resolve(c.free_bytes);
    const thrown = await download(url + (c.pin ? `#sha256=${sha256[c.pin]}` : ""), slot, { retryMs: 0 }).catch((error) => error);
    slot.close();
    slot = await open();
    try {
        const { error, version, part_bytes: partBytes } = c.result;
        if (slot.partBytes !== partBytes) return `${slot.partBytes} bytes stayed in the part, ${partBytes} should`;
        if (error) {
            const [code, words] = ERRORS[error];
            if (thrown?.code !== code || !words.test(thrown.message)) return `expected ${code}, got ${thrown?.code}: ${thrown?.message}`;
            return slot.finished ? "there is a finished file" : "";
        }
        if (thrown) return `${thrown.code}: ${thrown.message}`;
        const native = { bytes: new Uint8Array(size), allocate: () => 0, free: () => {} };
        await slot.load(native, () => {});
        return native.bytes.every((byte, i) => byte === bodyOf(version, i, i + 1)[0]) ? "" : `the file is not version ${version}`;
    } finally {
        slot.close();
    }
}

/** Has `server` answer requests for `path` as the case says. Returns what was not as written, and the exchanges that are left. */
export function dictate(golden, c, server, path, answerWith) {
    const complaints = [];
    const exchanges = [...c.exchanges];
    server.dictate(`${path}.sha256`, (_, socket) => {
        const sum = c.sum_beside && `${golden.sha256[c.sum_beside]}  model.edge\n`;
        answerWith(socket, sum ? 200 : 404, { "Content-Length": sum?.length ?? 0 }, sum);
    });
    server.dictate(path, ({ headers }, socket) => {
        const exchange = exchanges.shift();
        if (!exchange) {
            complaints.push(`a request too many: ${JSON.stringify(headers)}`);
            return socket.destroy();
        }
        for (const [name, value] of Object.entries(exchange.request))
            if ((headers[name.toLowerCase()] ?? null) !== value) complaints.push(`${name} is ${headers[name.toLowerCase()]}, expected ${value}`);
        if (!exchange.response) return socket.destroy();
        const { status, headers: given, body } = exchange.response;
        return answerWith(socket, status, given, body ? bodyOf(body.version, body.first, body.last) : undefined);
    });
    return { complaints, exchanges };
}
