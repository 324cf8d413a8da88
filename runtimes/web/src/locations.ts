// Where the package's parts are served.

/**
 * Says where the package's parts are served, when they do not lie beside its script: before the first model is loaded.
 *
 *     locations.worker = "/edgekit/dist/worker.js";  // what a bundler cannot find: dist/ copied as it is, and its worker there
 *     locations.wasm = "https://cdn.example/edgekit/dist/wasm/";  // the folder of the builds of the engine
 */
export const locations: { worker?: string | URL; wasm?: string | URL } = {};

/** @internal `location` as a URL, by the page's own where it is relative. */
export function absolute(location: string | URL): URL {
    return new URL(location, globalThis.location?.href);
}
