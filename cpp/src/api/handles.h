#pragma once
// What the opaque handles of edgekit.h hold.

#include <memory>
#include <span>

#include "engine/model.h"
#include "engine/session.h"
#include "text/template/chat_template.h"
#include "text/tokenizer.h"

// A tokenizer of its own, or one that belongs to a model.
struct edgekit_tokenizer {
    std::unique_ptr<edgekit::Tokenizer> owned;
    const edgekit::Tokenizer* tokenizer = nullptr;
};

struct edgekit_template {
    edgekit::ChatTemplate compiled;
};

struct edgekit_model {
    std::shared_ptr<const edgekit::Model> model;
    edgekit_tokenizer tokenizer;
};

struct edgekit_session {
    std::unique_ptr<edgekit::Session> session;
};
