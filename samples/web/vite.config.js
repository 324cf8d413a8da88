// What an app needs of its bundler and its server to use edgekit with threads.
const isolation = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
};

export default {
    base: "./",
    worker: { format: "es" }, // the worker imports one of four builds of the engine
    optimizeDeps: { exclude: ["edgekit"] }, // its files find each other by URL
    server: { headers: isolation },
    preview: { headers: isolation },
    build: { target: "es2022" },
};
