#include "text/template/chat_template.h"

#include "error.h"
#include "text/template/interpreter.h"

namespace edgekit {

struct ChatTemplate::Impl {
    tmpl::Program program;
};

ChatTemplate ChatTemplate::open(std::span<const std::byte> blob) {
    const std::string_view text(reinterpret_cast<const char*>(blob.data()), blob.size());
    return ChatTemplate(std::make_shared<const Impl>(Impl{tmpl::load_program(text)}));
}

MarkedText ChatTemplate::render_marked(const json::Value& context, const json::Value& package,
                                       const TemplateLimits& limits) const {
    if (!context.is_object())
        throw Error(Status::invalid_argument, "the context of a chat template must be an object");
    return tmpl::interpret(impl_->program, context, package, limits);
}

std::string ChatTemplate::render(const json::Value& context, const TemplateLimits& limits) const {
    return render_marked(context, json::Object(), limits).bytes;
}

}  // namespace edgekit
