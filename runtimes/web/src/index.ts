/**
 * edgekit in the browser.
 *
 *     const model = await Model.load("model.edge", { onProgress });
 *     for await (const event of model.session().generate("Once upon a time", { maxTokens: 64 }))
 *         if (event.kind === "text") show(event.text);
 */
export { cache, type CachedModel } from "./cache.js";
export type { Chat, ChatCompletion, ChatCompletionChunk, ChatParams, Completions, Usage } from "./chat.js";
export { ChatSession, type ChatSessionOptions } from "./chat_session.js";
export { EdgekitError, type ErrorCode } from "./error.js";
export { locations } from "./locations.js";
export { Model, type Tokenizer } from "./model.js";
export type { Session } from "./session.js";
export { ENDLESS } from "./types.js";
export type * from "./types.js";
export { supportedVariants, type Variant } from "./variant.js";
