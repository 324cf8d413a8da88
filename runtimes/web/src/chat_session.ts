import { EdgekitError } from "./error.js";
import type { Model } from "./model.js";
import type { Session } from "./session.js";
import type { GenerateOptions, GenerationEvent, Message, SessionOptions } from "./types.js";

export interface ChatSessionOptions extends SessionOptions {
    system?: string;
    messages?: Message[];
    tools?: unknown[];
    thinking?: boolean;
}

/** What a reply answers, and the reply so far. */
interface Turn {
    asked: Message[];
    reply: string;
}

/**
 * A conversation: keeps the messages, and computes only what is new in each turn.
 *
 *     const chat = new ChatSession(model, { system: "Answer in one sentence." });
 *     for await (const event of chat.say("Why is the sky blue?")) if (event.kind === "text") show(event.text);
 *
 * One turn at a time: a new one ends the one before, which keeps what it had said.
 */
export class ChatSession {
    readonly session: Session;
    /** The conversation, its system message included. May be changed between turns; a reply joins it when it has ended. */
    messages: Message[];
    /** The tools that the template tells the model of. */
    tools: unknown[] | undefined;
    /** Switches the reasoning of models that have it on or off; undefined leaves it to the template. */
    thinking: boolean | undefined;
    #turn: Turn | undefined;

    constructor(model: Model, { system, messages = [], tools, thinking, ...options }: ChatSessionOptions = {}) {
        this.session = model.session(options);
        this.messages = [...messages];
        this.tools = tools;
        this.thinking = thinking;
        if (system !== undefined) this.system = system;
    }

    /** The system message; what is set counts from the next turn on. */
    get system(): string | undefined {
        const first = this.messages[0];
        return first?.role === "system" ? String(first.content) : undefined;
    }

    set system(text: string | undefined) {
        const rest = this.messages.slice(this.system === undefined ? 0 : 1);
        this.messages = text === undefined ? rest : [{ role: "system", content: text }, ...rest];
    }

    /** Says something, as the user; iterate for the reply. Both join the messages, unless not a word was said. */
    say(text: string, options: GenerateOptions = {}): AsyncGenerator<GenerationEvent, void> {
        return this.#reply(options, (messages) => [...messages, { role: "user", content: text }]);
    }

    /** As `say`, to the messages as they stand: after a tool's results were added, for example. Throws `invalid_argument`. */
    reply(options: GenerateOptions = {}): AsyncGenerator<GenerationEvent, void> {
        return this.#reply(options, (messages) => {
            const last = messages.at(-1);
            if (!last || ["system", "assistant"].includes(last.role)) throw new EdgekitError("invalid_argument", "the last message is nobody's question; say something first");
            return messages;
        });
    }

    /** Another reply in the place of the last; that one stays until the new one ends. Throws `invalid_argument` when there is none. */
    regenerate(options: GenerateOptions = {}): AsyncGenerator<GenerationEvent, void> {
        return this.#reply(options, (messages) => {
            const asked = messages.slice(0, messages.findLastIndex(({ role }) => role !== "assistant") + 1);
            if (asked.length === messages.length) throw new EdgekitError("invalid_argument", "there is no reply to generate again; say something first");
            return asked;
        });
    }

    /** Takes the last user's message and all that followed back, and returns it. Throws `invalid_argument` when there is none. */
    undo(): Message {
        this.#end(this.#turn);
        const last = this.messages.findLastIndex(({ role }) => role === "user");
        const taken = this.messages[last];
        if (!taken) throw new EdgekitError("invalid_argument", "there is no turn to take back");
        this.messages = this.messages.slice(0, last);
        return taken;
    }

    /** Forgets the conversation, all but its system message. */
    async reset(): Promise<void> {
        this.#turn = undefined;
        this.messages = this.messages.slice(0, this.system === undefined ? 0 : 1);
        await this.session.reset();
    }

    /** The reply ends soon, with a `done` event whose `finish` is `cancelled`. */
    cancel(): Promise<void> {
        return this.session.cancel();
    }

    close(): Promise<void> {
        return this.session.close();
    }

    async *#reply(options: GenerateOptions, question: (messages: Message[]) => Message[]): AsyncGenerator<GenerationEvent, void> {
        this.#end(this.#turn);
        const turn: Turn = (this.#turn = { asked: question(this.messages), reply: "" });
        const thinking = this.thinking === undefined ? {} : { enable_thinking: this.thinking, thinking: this.thinking }; // what templates call it
        const templateVariables = { ...options.templateVariables, ...thinking };
        try {
            for await (const event of this.session.generate(turn.asked, { tools: this.tools, ...options, templateVariables })) {
                if (event.kind === "text") turn.reply += event.text;
                if (event.kind === "done") this.#end(turn, event.finish !== "cancelled");
                yield event;
            }
        } finally {
            this.#end(turn);
        }
    }

    /** The reply joins the messages, unless another turn has seen to that. */
    #end(turn: Turn | undefined, whole = false): void {
        if (!turn || this.#turn !== turn) return;
        this.#turn = undefined;
        if (whole || turn.reply) this.messages = [...turn.asked, { role: "assistant", content: turn.reply }];
    }
}
