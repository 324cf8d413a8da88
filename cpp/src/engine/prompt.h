#pragma once
// What a generation continues, as token ids.

#include <cstdint>
#include <string>
#include <vector>

#include "edgekit/edgekit.h"
#include "engine/model.h"

namespace edgekit {

struct Prompt {
    // The prompt of `options`: text, ids or messages. `empty`: nothing stands before an appended one. Throws
    // Error for what cannot be one.
    Prompt(const edgekit_generate_options& options, const Model& model, bool empty);

    std::vector<int32_t> ids;
    bool from_start;             // the whole text so far; else what follows the cache's
    json::Value messages;        // null: no chat
    std::string text;            // of a chat, as the template wrote it
    uint32_t system_tokens = 0;  // of a chat: EncodedChat::system_tokens
};

}  // namespace edgekit
