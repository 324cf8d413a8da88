// The page's side: calls of the engine's methods, and streams of events.

import type { Engine } from "./engine.js";
import { EdgekitError } from "./error.js";
import { absolute, locations } from "./locations.js";
import type { Answer, Request, Start } from "./protocol.js";

type Arguments<M extends keyof Engine> = M extends "load" ? [source: string | Blob, options: object] : Parameters<Engine[M]>;

interface Pending {
    resolve(value: unknown): void;
    reject(error: Error): void;
    event?(event: unknown): void;
}

interface NodeWorkers {
    getBuiltinModule(name: "node:worker_threads"): {
        Worker: new (url: URL) => { postMessage(start: Start, transfer: MessagePort[]): void; on(event: "error", listener: (e: Error) => void): void; terminate(): void };
    };
}

/** The worker, of the page's own origin or of another: of that, a page may not start one, and starts one that imports it. */
function startWorker(): Worker {
    const elsewhere = locations.worker && absolute(locations.worker);
    if (elsewhere) return elsewhere.origin === globalThis.location.origin ? new Worker(elsewhere, { type: "module" }) : imported(elsewhere);
    try {
        return new Worker(new URL("./worker.js", import.meta.url), { type: "module" }); // as bundlers want it
    } catch (error) {
        if (!(error instanceof DOMException && error.name === "SecurityError")) throw error;
        return imported(new URL(import.meta.url.replace(/[^/]*$/, "worker.js")));
    }
}

function imported(script: URL): Worker {
    const url = URL.createObjectURL(new Blob([`import ${JSON.stringify(script.href)};`], { type: "text/javascript" }));
    return new Worker(url, { type: "module" });
}

export class Connection {
    readonly #port: MessagePort & { ref?(): void; unref?(): void };
    readonly #pending = new Map<number, Pending>();
    #last = 0;
    #terminate = () => {};
    #broken: EdgekitError | null = null;

    private constructor(port: MessagePort) {
        this.#port = port;
        port.onmessage = ({ data }: MessageEvent<Answer>) => this.#receive(data);
        this.#port.unref?.();
    }

    /** An engine in a worker of its own. */
    static spawn(): Connection {
        const { port1, port2 } = new MessageChannel();
        const connection = new Connection(port1);
        const fail = (message: string) => connection.close(new EdgekitError("internal", `the worker stopped: ${message}`));
        const start: Start = { port: port2, wasm: locations.wasm && absolute(locations.wasm).href };
        const node = (globalThis as { process?: Partial<NodeWorkers> }).process;
        if (typeof Worker === "undefined" && node?.getBuiltinModule) {
            const worker = new (node.getBuiltinModule("node:worker_threads").Worker)(new URL("./worker.js", import.meta.url));
            worker.on("error", (error) => fail(error.message));
            worker.postMessage(start, [port2]);
            connection.#terminate = () => worker.terminate();
        } else {
            const worker = startWorker();
            worker.onerror = (event) => fail(event.message || "its script cannot be loaded");
            worker.postMessage(start, [port2]);
            connection.#terminate = () => worker.terminate();
        }
        return connection;
    }

    /** An engine in this thread. */
    static async here(): Promise<Connection> {
        const { serve } = await import("./serve.js");
        const { port1, port2 } = new MessageChannel();
        serve(port2);
        const connection = new Connection(port1);
        connection.#terminate = () => port2.close();
        return connection;
    }

    call<M extends keyof Engine>(method: M, ...args: Arguments<M>): Promise<Awaited<ReturnType<Engine[M]>>> {
        return this.#request(method, args) as Promise<Awaited<ReturnType<Engine[M]>>>;
    }

    /** `load`, with what it reports on the way. */
    load(source: string | Blob, options: object, report: (progress: unknown) => void): ReturnType<Engine["load"]> {
        return this.#request("load", [source, options], report) as ReturnType<Engine["load"]>;
    }

    /** `generate`'s events. */
    async *stream(...args: Parameters<Engine["generate"]>): AsyncGenerator<unknown, void> {
        const queue: unknown[] = [];
        let wake = () => {};
        let ended = false;
        const end = this.#request("generate", args, (event) => {
            queue.push(event);
            wake();
        }).finally(() => {
            ended = true;
            wake();
        });
        end.catch(() => {}); // told below, unless nobody listens any more
        const id = this.#last;
        try {
            for (;;) {
                while (queue.length) {
                    yield queue.shift();
                    this.#post({ id, taken: 1 });
                }
                if (ended) return void (await end);
                await new Promise<void>((resolve) => (wake = resolve));
            }
        } finally {
            if (!ended) this.#post({ id, taken: Infinity });
        }
    }

    /** A call whose result does not matter. */
    send<M extends keyof Engine>(method: M, ...args: Arguments<M>): void {
        this.#request(method, args).catch(() => {});
    }

    abortLoading(): void {
        this.#post({ abort: true });
    }

    close(reason = new EdgekitError("invalid_argument", "the model is closed; load it again")): void {
        if (this.#broken) return;
        this.#broken = reason;
        this.#terminate();
        this.#port.close();
        for (const { reject } of this.#pending.values()) reject(reason);
        this.#pending.clear();
    }

    #request(method: string, args: unknown[], event?: (event: unknown) => void): Promise<unknown> {
        if (this.#broken) return Promise.reject(this.#broken);
        const id = ++this.#last;
        return new Promise((resolve, reject) => {
            this.#pending.set(id, { resolve, reject, event });
            this.#port.ref?.(); // Node stays while something is awaited, and no longer
            this.#post({ id, method, args });
        });
    }

    #post(request: Request): void {
        if (!this.#broken) this.#port.postMessage(request);
    }

    #receive(answer: Answer): void {
        const pending = this.#pending.get(answer.id);
        if (!pending) return;
        if ("event" in answer) return pending.event?.(answer.event);
        this.#pending.delete(answer.id);
        if (!this.#pending.size) this.#port.unref?.();
        if ("error" in answer) pending.reject(new EdgekitError(answer.error.code, answer.error.message, answer.error.neededBytes));
        else pending.resolve(answer.value);
    }
}
