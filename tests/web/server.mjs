// A server for the tests: files of the repository, and answers that a test dictates.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
};

/** The file, or the part that was asked for. */
function sendFile(request, response, path, headers) {
    const { size, mtimeMs } = statSync(path);
    const etag = `"${size}-${Math.floor(mtimeMs)}"`;
    Object.assign(headers, { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream", ETag: etag, "Cache-Control": "no-cache" });
    if (request.headers["if-none-match"] === etag) return response.writeHead(304, headers).end();
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const first = range && (request.headers["if-range"] ?? etag) === etag ? Number(range[1]) : 0;
    if (first) headers["Content-Range"] = `bytes ${first}-${size - 1}/${size}`;
    response.writeHead(first ? 206 : 200, { ...headers, "Content-Length": size - first });
    return createReadStream(path, { start: first }).pipe(response);
}

/**
 * Serves the files of `root` (the repository's), folders by their index.html, and /empty, a page with nothing in it. `isolated` pages can
 * have threads.
 * `requests` lists what came; `dictate(path, answer)` has `answer(request, socket)` write to the socket whatever it likes.
 */
export async function serve({ isolated, root = ROOT }) {
    const requests = [];
    const dictated = new Map();
    const server = createServer((request, response) => {
        const path = normalize(decodeURIComponent(new URL(request.url, "http://h").pathname));
        requests.push({ path, headers: request.headers });
        if (dictated.has(path)) return dictated.get(path)(request, request.socket, response);
        const headers = isolated
            ? { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Resource-Policy": "cross-origin", "Access-Control-Allow-Origin": "*" }
            : {};
        if (path === "/empty") return response.writeHead(200, { ...headers, "Content-Type": TYPES[".html"] }).end("<!doctype html><title>empty</title>");
        try {
            return sendFile(request, response, root + path + (path.endsWith("/") ? "index.html" : ""), headers);
        } catch {
            return response.writeHead(404, headers).end();
        }
    });
    server.maxRequestsPerSocket = 1; // on a connection that served before, a browser repeats by itself what was not answered
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
        url: `http://127.0.0.1:${server.address().port}`,
        requests,
        sendFile: (request, response, path) => sendFile(request, response, ROOT + path, {}),
        dictate: (path, answer) => dictated.set(path, answer),
        close: () => {
            server.closeAllConnections();
            server.close();
        },
    };
}

/** Writes an answer byte for byte and ends the connection, a moment later: what breaks at once takes unread bytes along. */
export function answerWith(socket, status, headers, body = new Uint8Array(0)) {
    const lines = Object.entries({ ...headers, Connection: "close" }).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`HTTP/1.1 ${status} As Dictated\r\n${lines.join("")}\r\n`);
    socket.write(body);
    setTimeout(() => socket.end(), body.length < headers["Content-Length"] ? 200 : 0);
}
