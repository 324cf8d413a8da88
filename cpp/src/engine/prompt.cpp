#include "engine/prompt.h"

#include <span>

#include "error.h"

namespace edgekit {

namespace {

std::vector<int32_t> encode(const edgekit_generate_options& options, const Model& model, bool begins) {
    if (!model.tokenizer())
        throw Error(Status::unsupported, "the package has no tokenizer: give the prompt as token ids");
    const Tokenizer& tokenizer = *model.tokenizer();
    const bool add_special = begins && (options.prompt_flags & EDGEKIT_ADD_SPECIAL);
    std::vector<int32_t> ids;
    tokenizer.encode({options.prompt, options.prompt_size}, add_special,
                     options.prompt_flags & EDGEKIT_PARSE_SPECIAL, ids);
    // A rendered chat spells the token that begins texts itself: one is enough.
    const int32_t bos = tokenizer.bos_id();
    if (add_special && bos >= 0 && ids.size() > 1 && ids[0] == bos && ids[1] == bos) ids.erase(ids.begin());
    return ids;
}

}  // namespace

Prompt::Prompt(const edgekit_generate_options& options, const Model& model, bool empty)
    : from_start(options.prompt_mode == EDGEKIT_PROMPT_FROM_START) {
    if ((options.prompt != nullptr) + (options.prompt_ids != nullptr) + (options.messages != nullptr) > 1)
        throw Error(Status::invalid_argument, "give a prompt as text, as ids or as messages, one of them");
    if (options.messages) {
        if (!from_start)
            throw Error(Status::invalid_argument,
                        "messages are the whole conversation and cannot be appended: take "
                        "EDGEKIT_PROMPT_FROM_START, what the cache holds of them is not computed again");
        messages = parse_chat({options.messages, options.messages_size});
        EncodedChat chat = model.encode_chat(messages);
        ids = std::move(chat.ids);
        text = std::move(chat.text);
        system_tokens = chat.system_tokens;
    } else if (options.prompt) {
        ids = encode(options, model, from_start || empty);
    } else {
        const std::span given(options.prompt_ids, options.prompt_ids_count);
        ids.assign(given.begin(), given.end());
    }
    model.check_ids(ids, "the prompt");
    if (from_start && ids.empty()) {  // an empty text begins with the token that begins texts
        const int32_t bos = model.tokenizer() ? model.tokenizer()->bos_id() : -1;
        if (bos < 0)
            throw Error(Status::invalid_argument,
                        "the prompt has no tokens, and this model has no token that begins a text: give it a "
                        "word to start from");
        ids.push_back(bos);
    }
}

}  // namespace edgekit
