import { EdgekitError } from "./error.js";
import { absolute, locations } from "./locations.js";

/** A build of the engine, named by what it needs. */
export type Variant = "simd" | "simd-threads" | "relaxed" | "relaxed-threads";

export const variants: readonly Variant[] = ["relaxed-threads", "relaxed", "simd-threads", "simd"];

const header = [0, 97, 115, 109, 1, 0, 0, 0];
// (func (result v128) i32.const 0  i8x16.splat  i8x16.popcnt)
const simd = [1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
// (func  try  end)
const exceptions = [1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 8, 1, 6, 0, 6, 64, 25, 11, 11];
// (func (export "f") (param i32 i32) (result i32): the first lane of
//  i32x4.relaxed_dot_i8x16_i7x16_add_s(splat(a), splat(b), splat(0)), which is 4ab
const relaxed = [
    1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 22, 1, 20, 0, 32, 0, 253, 15, 32, 1, 253,
    15, 65, 0, 253, 17, 253, 147, 2, 253, 27, 0, 11,
];

function supports(section: number[]): boolean {
    return WebAssembly.validate(new Uint8Array([...header, ...section]));
}

/** Some engines of 2023 compute relaxed dot products twice too big until they optimize: ask for one. */
function relaxedIsRight(): boolean {
    if (!supports(relaxed)) return false;
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array([...header, ...relaxed])));
    return (exports.f as (a: number, b: number) => number)(-3, 5) === -60;
}

/** Threads are workers of the build's own script, and those a browser starts from the page's origin alone. */
function scriptsAreOurs(): boolean {
    const script = absolute(locations.wasm ?? import.meta.url);
    return !globalThis.location || !script.protocol.startsWith("http") || script.origin === globalThis.location.origin;
}

function threadsCanBeHad(): boolean {
    const isolated = (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated ?? true; // Node has no such rule
    return isolated && scriptsAreOurs() && typeof SharedArrayBuffer !== "undefined" && typeof Atomics !== "undefined";
}

/** The builds that run here, fastest first. Throws `unsupported` when there is none. */
export function supportedVariants(): Variant[] {
    if (!supports(simd) || !supports(exceptions))
        throw new EdgekitError(
            "unsupported",
            "this browser's WebAssembly has no SIMD or no exceptions; update it (Chrome 95, Firefox 100, Safari 16.4 or later)",
        );
    const threads = threadsCanBeHad();
    const dots = relaxedIsRight();
    return variants.filter((v) => (threads || !v.endsWith("-threads")) && (dots || !v.startsWith("relaxed")));
}

/** `wanted`, or the fastest build that runs here. Throws `unsupported` when `wanted` does not run. */
export function chooseVariant(wanted?: Variant): Variant {
    const supported = supportedVariants();
    if (wanted === undefined) return supported[0]!;
    if (supported.includes(wanted)) return wanted;
    const why = wanted.endsWith("-threads") && !threadsCanBeHad() ? "; threads need a cross-origin isolated page (COOP and COEP headers), and edgekit from its origin" : "";
    throw new EdgekitError("unsupported", `the variant ${wanted} does not run here; these do: ${supported.join(", ")}${why}`);
}

/** Half the processor's threads, which are its cores where two share one; never fewer than 2 if there are 2. */
export function defaultThreads(): number {
    const all = globalThis.navigator?.hardwareConcurrency ?? 1;
    return all <= 2 ? all : Math.min(8, Math.max(2, Math.ceil(all / 2)));
}
