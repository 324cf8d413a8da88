#pragma once
// What a generation continues, as token ids.

#include <cstdint>
#include <vector>

#include "edgekit/edgekit.h"
#include "engine/model.h"

namespace edgekit {

struct Prompt {
    std::vector<int32_t> ids;
    bool from_start = true;      // the whole text so far; else what follows the cache's
    bool is_chat = false;        // ids are messages in the template's words
    uint32_t system_tokens = 0;  // of a chat: EncodedChat::system_tokens

    // The prompt of `options`: text, ids or messages. Throws Error for what cannot be one.
    static Prompt from(const edgekit_generate_options& options, const Model& model);
};

}  // namespace edgekit
