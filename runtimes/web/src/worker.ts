// The worker's entry: its first message is the port to serve, and where the engine's builds are.

import { locations } from "./locations.js";
import type { Start } from "./protocol.js";
import { serve } from "./serve.js";

interface NodeWorker {
    getBuiltinModule(name: "node:worker_threads"): { parentPort: { once(event: "message", listener: (start: Start) => void): void } };
}

function start({ port, wasm }: Start): void {
    if (wasm !== undefined) locations.wasm = wasm;
    serve(port);
}

const node = (globalThis as { process?: NodeWorker }).process;
if (node) node.getBuiltinModule("node:worker_threads").parentPort.once("message", start);
else globalThis.onmessage = ({ data }: MessageEvent<Start>) => start(data);
