// A chat with a model in this page. Everything edgekit is in `load` and `answer`; the rest is the page.

import { cache, ChatSession, type LoadOptions, Model, type Progress } from "edgekit";

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const messages = element("messages");
const prompt = element<HTMLTextAreaElement>("prompt");
const temperature = element<HTMLInputElement>("temperature");

let model: Model | undefined;
let chat: ChatSession | undefined;
let running: AbortController | undefined;
let moved = false; // until then the temperature is the model's own

async function load(source: string | File): Promise<void> {
    const abort = new AbortController();
    element("problem").hidden = true;
    element("loading").hidden = false;
    element("abort").onclick = () => abort.abort();
    show({ phase: "download", loaded: 0, total: 0 });
    try {
        const backend = element<HTMLSelectElement>("backend").value as LoadOptions["backend"];
        model = await Model.load(source, { backend, onProgress: show, signal: abort.signal });
        chat = new ChatSession(model, { kv: "int8" });
        const { totalBytes, window } = await chat.session.plan();
        const { info } = model;
        const threads = info.threads === 1 ? "one thread" : `${info.threads} threads`;
        const where = info.backend === "gpu" ? "the graphics processor (WebGPU)" : `the processor (WebAssembly, ${threads}, ${info.isa})`;
        const { name } = new URL(typeof source === "string" ? source : `file:///${source.name}`, location.href).pathname.match(/(?<name>[^/]*)$/)!.groups!;
        element("about").textContent = `${decodeURIComponent(name!)} · ${count(info.nParameters)} parameters`;
        note(
            `${size(info.weightBytes)} of weights (${info.scheme}) and ${size(totalBytes)} for a window of ${window.toLocaleString()} tokens, ` +
                `on ${where}. Nothing leaves this page.`,
        );
        if (info.relayed) note(`Not on the graphics processor: ${info.relayed}.`);
        if (!crossOriginIsolated && info.backend === "cpu") note("This page is not cross-origin isolated, so the engine runs on one thread.");
        prompt.placeholder = info.hasChatTemplate ? "Ask something" : "Begin a text; the model goes on";
        go("chat");
    } catch (error) {
        model?.close();
        if (!abort.signal.aborted) complain(error);
    } finally {
        element("loading").hidden = true;
    }
    void listKept();
}

async function answer(text: string): Promise<void> {
    const chatting = model!.info.hasChatTemplate;
    bubble("user", text);
    const reply = bubble("assistant", chatting ? "" : text);
    running = new AbortController();
    busy(true);
    let tokens = 0;
    let began = 0;
    try {
        const options = { temperature: moved ? Number(temperature.value) : undefined, signal: running.signal };
        for await (const event of chatting ? chat!.say(text, options) : chat!.session.generate(text, options)) {
            if (event.kind === "prompt") speed(`reading ${event.done} of ${event.total} tokens`);
            if (event.kind === "evicted") note("The conversation is longer than the window: the model no longer sees its oldest part.", "evicted");
            if (event.kind === "text") {
                reply.append(event.text);
                began ||= performance.now();
                tokens += event.tokens.length;
                if (tokens > 1) speed(`${tokens} tokens · ${((1000 * (tokens - 1)) / (performance.now() - began)).toFixed(1)} tokens/s`);
                messages.scrollTop = messages.scrollHeight;
            }
            if (event.kind === "done") {
                if (event.relayed && !model!.info.relayed) note(`The processor went on: ${event.relayed}.`);
                const { generatedTokens, decodeTokS, firstTokenMs } = event.stats;
                const rate = decodeTokS ? ` · ${decodeTokS.toFixed(1)} tokens/s` : "";
                speed(`${generatedTokens} tokens${rate} · first after ${Math.round(firstTokenMs)} ms${event.finish === "cancelled" ? " · stopped" : ""}`);
            }
        }
    } catch (error) {
        note(messageOf(error), "wrong");
    }
    busy(false);
}

// ---- the page

function go(view: "start" | "chat"): void {
    for (const id of ["start", "chat"]) element(id).hidden = id !== view;
    for (const id of ["fresh", "change"]) element(id).hidden = view !== "chat";
    if (view === "chat") prompt.focus();
}

function show({ phase, loaded, total }: Progress): void {
    const bar = element<HTMLProgressElement>("bar");
    if (total) bar.value = loaded / total;
    else bar.removeAttribute("value");
    const amount = total ? `${size(loaded)} of ${size(total)}` : loaded ? size(loaded) : "";
    element("step").textContent = `${phase === "download" ? "Downloading" : "Loading"} ${amount}`;
}

function bubble(role: string, text: string): HTMLElement {
    const box = document.createElement("div");
    box.className = `message ${role}`;
    box.textContent = text;
    messages.append(box);
    messages.scrollTop = messages.scrollHeight;
    return box;
}

function note(text: string, kind = ""): void {
    if (kind === "evicted" && messages.querySelector(".evicted")) return;
    const line = document.createElement("p");
    line.className = `note ${kind}`;
    line.textContent = text;
    messages.append(line);
}

function busy(is: boolean): void {
    element("send").hidden = is;
    element("stop").hidden = !is;
    messages.lastElementChild?.classList.toggle("running", is);
    for (const box of is ? [] : messages.querySelectorAll(".running")) box.classList.remove("running");
    if (!is) running = undefined;
    prompt.focus();
}

function complain(error: unknown): void {
    const line = element("problem");
    line.textContent = messageOf(error);
    line.hidden = false;
}

const speed = (text: string) => void (element("speed").textContent = text);
const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
const size = (bytes: number) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`);
const count = (n: number) => (n < 1e9 ? `${(n / 1e6).toFixed(1)} M` : `${(n / 1e9).toFixed(2)} B`);

async function listKept(): Promise<void> {
    const kept = await cache.list().catch(() => []);
    element("kept").hidden = kept.length === 0;
    element("models").replaceChildren(
        ...kept.map(({ url, bytes, complete }) => {
            const line = document.createElement("li");
            const name = Object.assign(document.createElement("span"), { className: "name", textContent: url, title: url });
            const amount = Object.assign(document.createElement("span"), { className: "quiet", textContent: `${size(bytes)}${complete ? "" : " so far"}` });
            const open = Object.assign(document.createElement("button"), { textContent: complete ? "Load" : "Go on", onclick: () => load(url) });
            const remove = Object.assign(document.createElement("button"), {
                className: "plain",
                textContent: "Delete",
                onclick: () => cache.delete(url).then(listKept, complain),
            });
            line.append(name, amount, open, remove);
            return line;
        }),
    );
}

element("file").onchange = ({ target }) => {
    const input = target as HTMLInputElement;
    if (input.files?.[0]) void load(input.files[0]);
    input.value = "";
};
element("address").onsubmit = (event) => {
    event.preventDefault();
    void load(element<HTMLInputElement>("url").value);
};
element("sample").onclick = () => load(new URL("sample.edge", location.href).href);
for (const name of ["dragover", "dragleave", "drop"])
    document.addEventListener(name, (event) => {
        event.preventDefault();
        element("drop").classList.toggle("over", name === "dragover");
        const file = (event as DragEvent).dataTransfer?.files[0];
        if (name === "drop" && file && !element("start").hidden) void load(file);
    });

element("ask").onsubmit = (event) => {
    event.preventDefault();
    const text = prompt.value.trim();
    if (!text || running) return;
    prompt.value = "";
    void answer(text);
};
prompt.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        element<HTMLFormElement>("ask").requestSubmit();
    }
};
document.onkeydown = (event) => {
    if (event.key === "Escape") running?.abort();
};
element("stop").onclick = () => running?.abort();
temperature.oninput = () => {
    moved = true;
    document.querySelector("output")!.value = temperature.value;
};
element("fresh").onclick = async () => {
    running?.abort();
    messages.replaceChildren();
    speed("");
    await chat!.reset();
};
element("change").onclick = () => {
    running?.abort();
    model?.close();
    messages.replaceChildren();
    speed("");
    element("about").textContent = "a language model in this page";
    go("start");
};

const wanted = new URLSearchParams(location.search).get("model");
if (wanted) void load(new URL(wanted, location.href).href);
else void listKept();
const sample = await fetch("sample.edge", { method: "HEAD" }).catch(() => null);
element("sample").hidden = !sample?.ok || Boolean(sample.headers.get("Content-Type")?.startsWith("text/html"));
