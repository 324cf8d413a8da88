// The engine's side of a connection.

import { Engine } from "./engine.js";
import { EdgekitError, messageOf } from "./error.js";
import { AHEAD, type Answer, type Request } from "./protocol.js";

/** Answers the requests that arrive at `port`, for one model. */
export function serve(port: MessagePort): void {
    const engine = new Engine();
    const loading = new AbortController();
    const streams = new Map<number, { session: unknown; room: number; wake: () => void }>();
    const answer = (message: Answer, transfer: Transferable[] = []) => port.postMessage(message, transfer);

    function taken(id: number, events: number): void {
        const state = streams.get(id);
        if (!state) return;
        state.room += events;
        if (state.room > 0) state.wake();
    }

    async function stream(id: number, session: unknown, events: AsyncIterable<unknown>): Promise<void> {
        const state = { session, room: AHEAD, wake: () => {} };
        streams.set(id, state);
        try {
            for await (const event of events) {
                answer({ id, event });
                if (--state.room <= 0) await new Promise<void>((resolve) => (state.wake = resolve));
            }
        } finally {
            streams.delete(id);
        }
    }

    async function run(id: number, method: string, args: unknown[]): Promise<void> {
        if (method === "load") {
            let last = 0;
            args.push((progress: { loaded: number; total: number }) => {
                const now = performance.now();
                if (now - last < 50 && progress.loaded !== progress.total) return;
                last = now;
                answer({ id, event: progress });
            }, loading.signal);
        }
        const result = (engine as unknown as Record<string, (...args: unknown[]) => unknown>)[method]!(...args);
        if (method === "generate") {
            await stream(id, args[0], result as AsyncIterable<unknown>);
            return answer({ id, value: undefined });
        }
        if (method === "freeSession") for (const [other, { session }] of streams) if (session === args[0]) taken(other, Infinity);
        const value = await result;
        answer({ id, value }, ArrayBuffer.isView(value) ? [value.buffer as ArrayBuffer] : []);
    }

    port.onmessage = async ({ data }: MessageEvent<Request>) => {
        if ("taken" in data) {
            taken(data.id, data.taken);
        } else if ("abort" in data) {
            loading.abort();
        } else {
            try {
                await run(data.id, data.method, data.args);
            } catch (error) {
                const { code, neededBytes } = error instanceof EdgekitError ? error : new EdgekitError("internal", "");
                answer({ id: data.id, error: { code, message: messageOf(error), neededBytes } });
            }
        }
    };
}
