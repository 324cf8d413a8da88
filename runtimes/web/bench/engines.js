// Each engine, opened with the same weights, as `generate(prompt, tokens, told)`: it calls told() at each token of its answer. Greedy,
// no speculation, the prompt never found in a cache. A prompt is a text of as many tokens as letters.

async function open_edgekit({ threads, variant }) {
    const { Model } = await import("/runtimes/web/dist/index.js");
    const model = await Model.load("/build/bench-web/model.edge", { threads, variant, cache: false });
    const session = model.session({ window: 1024 });
    return {
        what: `${model.info.variant}, ${model.info.threads} threads`,
        async generate(prompt, tokens, told) {
            await session.reset();
            const options = { maxTokens: tokens, ignoreEos: true, speculation: 0, addSpecialTokens: false };
            for await (const event of session.generate(prompt, options)) if (event.kind === "text") event.tokens.forEach(told);
        },
    };
}

async function open_wllama({ threads }) {
    const folder = "/build/bench-web/node_modules/@wllama/wllama/esm/";
    const { Wllama } = await import(`${folder}index.js`);
    const wllama = new Wllama({ default: `${folder}wasm/wllama.wasm` }, { suppressNativeLog: true });
    const blob = await (await fetch("/build/bench-web/model.gguf")).blob();
    await wllama.loadModel([blob], { n_threads: threads, n_ctx: 1024, n_gpu_layers: 0, warmup: false });
    return {
        what: `llama.cpp ${Wllama.getLibllamaVersion()}, ${wllama.getNumThreads()} threads`,
        async generate(prompt, tokens, told) {
            const params = { prompt, max_tokens: tokens, temperature: 0, ignore_eos: true, cache_prompt: false, stream: true };
            for await (const chunk of await wllama.createCompletion(params)) if (chunk.choices[0]) told();
        },
    };
}

async function open_transformers({ threads }) {
    const transformers = await import("/build/bench-web/node_modules/@huggingface/transformers/dist/transformers.web.js");
    const { AutoModelForCausalLM, Tensor, env } = transformers;
    env.allowRemoteModels = false;
    env.allowLocalModels = true;
    env.localModelPath = "/build/bench-web/";
    env.useBrowserCache = false;
    env.backends.onnx.wasm.numThreads = threads;
    env.backends.onnx.wasm.wasmPaths = "/build/bench-web/node_modules/onnxruntime-web/dist/";
    const model = await AutoModelForCausalLM.from_pretrained("transformers.js", {
        dtype: "q4",
        device: "wasm",
    });
    return {
        what: `Transformers.js ${env.version}, ${threads} threads`,
        async generate(prompt, tokens, told) {
            const ids = BigInt64Array.from(prompt, (letter) => BigInt(letter.codePointAt(0) - 33));
            const shape = [1, ids.length];
            let put = 0;
            const streamer = { put: () => put++ && told(), end: () => {} }; // first comes the prompt
            await model.generate({
                input_ids: new Tensor("int64", ids, shape),
                attention_mask: new Tensor("int64", ids.map(() => 1n), shape),
                max_new_tokens: tokens,
                min_new_tokens: tokens,
                do_sample: false,
                streamer,
            });
        },
    };
}

export const engines = { edgekit: open_edgekit, wllama: open_wllama, transformers: open_transformers };

/** One row: tokens per second of the prompt and of the answer, by the page's clock. */
export async function measure({ generate }, prompt, tokens) {
    const times = [];
    const start = performance.now();
    await generate(prompt, tokens, () => times.push(performance.now()));
    if (times.length < tokens) throw new Error(`${times.length} tokens came, ${tokens} were asked for`);
    return { prefill: (1000 * prompt.length) / (times[0] - start), decode: (1000 * (tokens - 1)) / (times[tokens - 1] - times[0]) };
}
