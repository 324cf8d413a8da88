// The worker's entry: its first message is the port to serve.

import { serve } from "./serve.js";

interface NodeWorker {
    getBuiltinModule(name: "node:worker_threads"): { parentPort: { once(event: "message", listener: (port: MessagePort) => void): void } };
}

const node = (globalThis as { process?: NodeWorker }).process;
if (node) node.getBuiltinModule("node:worker_threads").parentPort.once("message", serve);
else globalThis.onmessage = ({ data }: MessageEvent<MessagePort>) => serve(data);
