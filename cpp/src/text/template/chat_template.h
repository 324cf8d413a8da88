// Chat templates: what turns messages into the text that a model was trained on.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "format/json.h"
#include "text/marked_text.h"
#include "text/template/value.h"

namespace edgekit {

using TemplateLimits = tmpl::Limits;

class ChatTemplate {
public:
    // `blob`: what converters/text/chat_template.py compiled; it is copied. Throws
    // Error(Status::invalid_file), and Error(Status::unsupported) when the blob needs a later build.
    static ChatTemplate open(std::span<const std::byte> blob);

    // Renders as Transformers does. `context`: an object with what the template reads: "messages", "tools",
    // "documents", "add_generation_prompt", "bos_token", ... and, if the clock must not be asked, "now" (see
    // clock.h). Throws Error(Status::template_error) when the template fails, with its own message
    // if it calls raise_exception. May be called from several threads at once.
    std::string render(const json::Value& context, const TemplateLimits& limits = {}) const;
    // The same, with marks on what came from `context`. `package`: an object with the variables that are the
    // package's own, such as "bos_token"; those of `context` hide them.
    MarkedText render_marked(const json::Value& context, const json::Value& package,
                             const TemplateLimits& limits = {}) const;

private:
    struct Impl;
    explicit ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

    std::shared_ptr<const Impl> impl_;
};

}  // namespace edgekit
