// The WebAssembly module: its memory, the structs of edgekit.h in it, and calls that return a status.

import { EdgekitError, type ErrorCode } from "./error.js";
import { type GpuImports, openGpu, promising } from "./gpu_device.js";
import { absolute, locations } from "./locations.js";
import type { Variant } from "./variant.js";

type Integer = number | bigint;

interface Module {
    wasmExports: Record<string, (...args: Integer[]) => number>;
}

interface ModuleOptions {
    wasmMemory: WebAssembly.Memory;
    poolSize: number;
    gpu?: GpuImports;
}

/** A build that `locations` says is elsewhere. */
function elsewhere(variant: Variant): Promise<{ default: (options: ModuleOptions) => Promise<Module> }> | undefined {
    if (locations.wasm === undefined) return undefined;
    const url = `${absolute(locations.wasm).href.replace(/\/$/, "")}/edgekit-${variant}.mjs`;
    return import(/* webpackIgnore: true */ /* turbopackIgnore: true */ /* @vite-ignore */ url);
}

// Spelled out, so that bundlers see what there is.
const modules: Record<Variant, () => Promise<{ default: (options: ModuleOptions) => Promise<Module> }>> = {
    simd: () => elsewhere("simd") ?? import("./wasm/edgekit-simd.mjs"),
    "simd-threads": () => elsewhere("simd-threads") ?? import("./wasm/edgekit-simd-threads.mjs"),
    relaxed: () => elsewhere("relaxed") ?? import("./wasm/edgekit-relaxed.mjs"),
    "relaxed-threads": () => elsewhere("relaxed-threads") ?? import("./wasm/edgekit-relaxed-threads.mjs"),
};

const PAGE = 65536;
const INITIAL_PAGES = 256; // INITIAL_MEMORY
const MAXIMUM_PAGES = [65536, 32768, 16384]; // MAXIMUM_MEMORY, and what smaller devices grant
const MAXIMUM_BYTES = MAXIMUM_PAGES[0]! * PAGE;

interface Layout {
    size: number;
    members: Map<string, { type: string; offset: number }>;
}

export class Native {
    readonly #exports: Module["wasmExports"];
    readonly #memory: WebAssembly.Memory;
    readonly #layouts = new Map<string, Layout>();
    readonly #error: Struct;
    #bytes: Uint8Array<ArrayBuffer>;
    #view: DataView;
    #turn: Promise<unknown> = Promise.resolve();

    /** `noGpu`: why the engine cannot compute on the GPU; null: it can. */
    private constructor(
        { wasmExports }: Module,
        memory: WebAssembly.Memory,
        readonly noGpu: string | null,
    ) {
        this.#exports = wasmExports;
        this.#memory = memory;
        this.#bytes = new Uint8Array(memory.buffer);
        this.#view = new DataView(memory.buffer);
        this.#readLayouts();
        this.#error = new Struct(this, this.layout("edgekit_error"), this.allocate(this.layout("edgekit_error").size));
    }

    /** Instantiates a build; `threads` counts the calling one. `withGpu`: the engine may compute on it, if there is one. */
    static async load(variant: Variant, threads: number, withGpu = false): Promise<Native> {
        const shared = variant.endsWith("-threads");
        const memory = allocateMemory(shared);
        const { default: instantiate } = await modules[variant]();
        const gpu = withGpu ? await openGpu(memory) : "";
        const found = typeof gpu === "object";
        return new Native(await instantiate({ wasmMemory: memory, poolSize: threads - 1, gpu: found ? gpu : undefined }), memory, found ? null : gpu);
    }

    /** All of the memory; good until the next call, which may let it grow. */
    get bytes(): Uint8Array<ArrayBuffer> {
        if (this.#bytes.buffer !== this.#memory.buffer) {
            this.#bytes = new Uint8Array(this.#memory.buffer);
            this.#view = new DataView(this.#memory.buffer);
        }
        return this.#bytes;
    }

    get view(): DataView {
        return this.bytes && this.#view;
    }

    /** A function that cannot fail; addresses come back unsigned. */
    call(name: string, ...args: Integer[]): number {
        const result = this.#exports[name]!(...args);
        return typeof result === "bigint" ? Number(result) : result >>> 0;
    }

    /** A function whose last parameter is an edgekit_error. Throws what it reports. */
    check(name: string, ...args: Integer[]): void {
        this.#throw(this.call(name, ...args, this.#error.address));
    }

    /** As `check`, for a function that may wait for the GPU: within `turn`. */
    async wait(name: string, ...args: Integer[]): Promise<void> {
        if (this.noGpu === null) this.#throw(await promising(this.#exports[name])(...args, this.#error.address));
        else this.check(name, ...args);
    }

    #throw(status: number): void {
        if (status === 0) return;
        const code = this.cString(this.call("edgekit_status_name", status)) as ErrorCode;
        const needed = this.#error.get("needed_bytes") as number;
        throw new EdgekitError(code, this.#error.get("message") as string, needed || undefined);
    }

    /** Throws `out_of_memory`. */
    allocate(size: number, alignment = 16): number {
        const whole = Math.ceil(Math.max(size, 1) / alignment) * alignment;
        const address = whole < MAXIMUM_BYTES ? this.call("aligned_alloc", alignment, whole) : 0;
        if (address) return address;
        throw new EdgekitError(
            "out_of_memory",
            `${size} bytes of memory were refused (${this.#memory.buffer.byteLength} are in use, WebAssembly ends at ` +
                `${MAXIMUM_BYTES}); use a smaller model, a narrower window, or close other pages`,
        );
    }

    free(address: number): void {
        this.call("free", address);
    }

    layout(struct: string): Layout {
        return this.#layouts.get(struct)!;
    }

    text(address: number, size: number): string {
        return new TextDecoder().decode(this.bytes.slice(address, address + size)); // shared memory cannot be decoded
    }

    cString(address: number): string {
        return this.text(address, this.bytes.indexOf(0, address) - address);
    }

    ids(address: number, count: number): number[] {
        return Array.from(new Int32Array(this.bytes.buffer, address, count));
    }

    /** Runs `work` with allocations that end when it returns. */
    scoped<T>(work: (scope: Scope) => T): T {
        const scope = new Scope(this);
        try {
            return work(scope);
        } finally {
            scope.release();
        }
    }

    /** As `scoped`, after all turns before: no more than one call waits in the engine. */
    turn<T>(work: (scope: Scope) => Promise<T>): Promise<T> {
        const scope = new Scope(this);
        const done = this.#turn.then(() => work(scope)).finally(() => scope.release());
        this.#turn = done.catch(() => {});
        return done;
    }

    #readLayouts(): void {
        const count = this.allocate(4);
        const rows = this.call("edgekit_web_layout", count);
        for (let i = 0; i < this.view.getUint32(count, true); ++i) {
            const row = rows + 16 * i;
            const [owner, name, type] = [0, 4, 8].map((at) => this.cString(this.view.getUint32(row + at, true))) as [string, string, string];
            const offset = this.view.getUint32(row + 12, true);
            if (name === "") this.#layouts.set(owner, { size: offset, members: new Map() });
            else this.layout(owner).members.set(name, { type, offset });
        }
        this.free(count);
    }
}

function allocateMemory(shared: boolean): WebAssembly.Memory {
    for (const maximum of MAXIMUM_PAGES) {
        try {
            return new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared });
        } catch (error) {
            if (!(error instanceof RangeError)) throw error;
        }
    }
    throw new EdgekitError("out_of_memory", "the browser grants no memory to WebAssembly; close other pages");
}

/** Memory that is freed together. */
export class Scope {
    readonly #held: number[] = [];

    constructor(readonly native: Native) {}

    allocate(size: number, alignment?: number): number {
        const address = this.native.allocate(size, alignment);
        this.#held.push(address);
        return address;
    }

    /** A zeroed struct; one that has a `struct_size` knows it. */
    struct(name: string): Struct {
        const layout = this.native.layout(name);
        const struct = new Struct(this.native, layout, this.allocate(layout.size));
        this.native.bytes.fill(0, struct.address, struct.address + layout.size);
        if (layout.members.has("struct_size")) struct.set("struct_size", layout.size);
        return struct;
    }

    /** An option struct with its defaults, which may depend on a model. */
    options(name: string, ...model: number[]): Struct {
        const struct = this.struct(name);
        this.native.call(`${name}_init`, struct.address, ...model);
        return struct;
    }

    text(text: string): { address: number; size: number } {
        const bytes = new TextEncoder().encode(text);
        return { address: this.copy(bytes), size: bytes.length };
    }

    copy(bytes: Uint8Array, alignment?: number): number {
        const address = this.allocate(bytes.length, alignment);
        this.native.bytes.set(bytes, address);
        return address;
    }

    ids(ids: readonly number[]): number {
        for (const [place, id] of ids.entries())
            if (!Number.isInteger(id) || id < 0 || id > 0x7fffffff)
                throw new EdgekitError("invalid_argument", `token id ${id} at place ${place} is not one; ids are whole numbers from 0`);
        return this.copy(new Uint8Array(Int32Array.from(ids).buffer));
    }

    /** The bytes that a function with `(buffer, capacity, size*, error*)` at its end gives, an item of `width` bytes each. */
    filled(width: number, name: string, ...args: Integer[]): Uint8Array {
        const size = this.allocate(4);
        const count = () => this.native.view.getUint32(size, true);
        try {
            this.native.check(name, ...args, 0, 0, size);
        } catch (error) {
            if (!(error instanceof EdgekitError && error.code === "buffer_too_small")) throw error;
        }
        const capacity = count();
        const buffer = this.allocate(capacity * width);
        this.native.check(name, ...args, buffer, capacity, size);
        return this.native.bytes.slice(buffer, buffer + count() * width);
    }

    /** The address that a function with `(out*, error*)` at its end gives; it may wait for the GPU. */
    async created(name: string, ...args: Integer[]): Promise<number> {
        const out = this.allocate(4);
        await this.native.wait(name, ...args, out);
        return this.native.view.getUint32(out, true);
    }

    release(): void {
        for (const address of this.#held) this.native.free(address);
    }
}

const RANGES: Record<string, [number, number]> = {
    u32: [0, 2 ** 32 - 1],
    i32: [-(2 ** 31), 2 ** 31 - 1],
    u64: [0, Number.MAX_SAFE_INTEGER],
    f32: [-Infinity, Infinity],
    f64: [-Infinity, Infinity],
};

/** A struct of edgekit.h in the module's memory, by the names of its members. */
export class Struct {
    constructor(
        readonly native: Native,
        readonly layout: Layout,
        readonly address: number,
    ) {}

    has(member: string): boolean {
        return this.layout.members.has(member);
    }

    get(member: string): number | string {
        const { type, offset } = this.layout.members.get(member)!;
        const at = this.address + offset;
        const view = this.native.view;
        switch (type) {
            case "u32":
                return view.getUint32(at, true);
            case "i32":
                return view.getInt32(at, true);
            case "u64":
                return Number(view.getBigUint64(at, true));
            case "f32":
                return view.getFloat32(at, true);
            case "f64":
                return view.getFloat64(at, true);
            case "span":
                return this.native.text(view.getUint32(at, true), view.getUint32(at + 4, true));
            default:
                return this.native.cString(at);
        }
    }

    /** Throws `invalid_argument` for what the member cannot hold; `label` is the caller's name for it. */
    set(member: string, value: unknown, label = member): void {
        const { type, offset } = this.layout.members.get(member)!;
        const [least, most] = RANGES[type]!;
        const number = typeof value === "boolean" ? Number(value) : value;
        const whole = !type.startsWith("f");
        if (typeof number !== "number" || !(number >= least && number <= most) || (whole && !Number.isInteger(number)))
            throw new EdgekitError(
                "invalid_argument",
                `${label} is ${String(value)}; give a ${whole ? `whole number${least === 0 ? " from 0" : ""}` : "number"}`,
            );
        const at = this.address + offset;
        const view = this.native.view;
        if (type === "u32") view.setUint32(at, number, true);
        else if (type === "i32") view.setInt32(at, number, true);
        else if (type === "u64") view.setBigUint64(at, BigInt(number), true);
        else if (type === "f32") view.setFloat32(at, number, true);
        else view.setFloat64(at, number, true);
    }
}
