#include "engine/model.h"

#include <algorithm>

#include "error.h"

namespace edgekit {

namespace {

// "generation" of the metadata over the engine's defaults.
edgekit_generate_options advised_options(const json::Value& advice) {
    edgekit_generate_options options = default_generate_options();
    if (advice.is_null()) return options;
    const auto take = [&](const char* name, float& member) {
        if (const json::Value* value = advice.find(name)) member = static_cast<float>(value->as_double(name));
    };
    take("temperature", options.temperature);
    take("top_p", options.top_p);
    take("min_p", options.min_p);
    take("typical_p", options.typical_p);
    take("repetition_penalty", options.repetition_penalty);
    take("presence_penalty", options.presence_penalty);
    take("frequency_penalty", options.frequency_penalty);
    if (const json::Value* value = advice.find("top_k"))
        options.top_k = static_cast<uint32_t>(value->as_int_in(0, UINT32_MAX, "top_k"));
    return options;
}

}  // namespace

edgekit_generate_options default_generate_options() {
    edgekit_generate_options options{};
    options.struct_size = sizeof options;
    options.prompt_flags = EDGEKIT_ADD_SPECIAL | EDGEKIT_PARSE_SPECIAL;
    options.seed = EDGEKIT_SEED_RANDOM;
    options.top_p = 1;
    options.typical_p = 1;
    options.repetition_penalty = 1;
    options.penalty_window = 64;
    options.speculation = -1;
    return options;
}

json::Value parse_chat(std::string_view messages) {
    try {
        return json::parse(messages);
    } catch (const Error& e) {
        throw Error(Status::invalid_argument, std::string("the messages are not JSON: ") + e.what());
    }
}

uint64_t text_bytes(const EdgeFile& file) {
    return file.tensor("tokenizer").size() + file.tensor("chat_template").size();
}

Model::Model(std::unique_ptr<MappedFile> bytes, const edgekit_model_options& options, const BackendKind& kind,
             std::unique_ptr<Companion> companion)
    : bytes_(std::move(bytes)),
      file_(bytes_->bytes()),
      spec_(ModelSpec::parse(file_.spec())),
      weights_(spec_, file_),
      companion_(std::move(companion)),
      relay_(kind, spec_, weights_, options),
      sampling_([this] { return std::make_unique<Sampling>(backend().kernels(), spec_.vocab_size); }),
      generate_defaults_(advised_options(file_.document("generation"))),
      identity_(file_.identity()),
      metadata_json_(file_.metadata_json()),
      scheme_(file_.text("scheme")) {
    if (companion_) companion_->check(spec_.vocab_size);
    if (options.verify_hashes) file_.verify_hashes();
    if (const auto blob = own_tensor("tokenizer"); !blob.empty()) tokenizer_.emplace(Tokenizer::open(blob));
    if (const auto blob = own_tensor("chat_template"); !blob.empty())
        chat_template_.emplace(ChatTemplate::open(blob));
    const json::Value eos = file_.document("eos_ids");
    if (eos.is_array())
        for (const auto& id : eos.as_array("eos_ids"))
            eos_ids_.push_back(static_cast<int32_t>(id.as_int_in(0, spec_.vocab_size - 1, "eos_ids")));
    const Matrix& table = weights_.ple_embed;
    bytes_->read_ahead({table.data, table.n_tiles() * table.tile_bytes});
}

edgekit_session_options Model::fitted(edgekit_session_options options) const {
    if (!companion_ || options.memory_budget_bytes) return options;
    if (options.window == 0) options.window = companion_->table().window;
    if (options.sinks == EDGEKIT_SINKS_AUTO) options.sinks = companion_->table().sinks;
    return options;
}

SessionPlan Model::plan_session(const edgekit_session_options& options) const {
    return edgekit::plan_session(relay_.kind(), spec_, weights_, text_bytes(), own_bytes(),
                                 backend().threads(), fitted(options));
}

// A tensor that is checked when it is opened and trusted from then on: whoever writes to a mapped file would
// change it afterwards.
std::span<const std::byte> Model::own_tensor(std::string_view name) {
    const std::span<const std::byte> shared = file_.tensor(name);
    if (!bytes_->is_mapped() || shared.empty()) return shared;
    copies_.push_back(std::make_unique<std::byte[]>(shared.size()));
    std::copy(shared.begin(), shared.end(), copies_.back().get());
    return {copies_.back().get(), shared.size()};
}

bool Model::ends_text(int32_t id) const {
    return std::find(eos_ids_.begin(), eos_ids_.end(), id) != eos_ids_.end();
}

void Model::check_ids(std::span<const int32_t> ids, const char* name) const {
    for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0 || static_cast<uint32_t>(ids[i]) >= spec_.vocab_size)
            throw Error(Status::invalid_argument, std::string(name) + ": token id " + std::to_string(ids[i]) +
                                                      " at place " + std::to_string(i) +
                                                      " is outside the vocabulary of " +
                                                      std::to_string(spec_.vocab_size));
    }
}

MarkedText Model::render_marked(const json::Value& messages) const {
    if (!chat_template_)
        throw Error(Status::unsupported, "the package has no chat template: write the prompt by hand");
    json::Object context, package;
    package.set("add_generation_prompt", true);
    const json::Value special = file_.document("special_tokens");
    if (special.is_object())
        for (const auto& [name, value] : special.as_object("special_tokens")) package.set(name, value);
    if (messages.is_array()) {
        context.set("messages", messages);
    } else {
        context = messages.as_object("the chat");
    }
    return chat_template_->render_marked(std::move(context), std::move(package));
}

std::string Model::render_chat(const json::Value& messages) const { return render_marked(messages).bytes; }

EncodedChat Model::encode_chat(const json::Value& messages, size_t from) const {
    if (!tokenizer_)
        throw Error(Status::unsupported, "the package has no tokenizer: give the prompt as token ids");
    const MarkedText text = render_marked(messages);
    EncodedChat chat;
    const MarkedText rest = text.slice(from, text.bytes.size());
    tokenizer_->encode(rest.bytes, false, true, chat.ids, rest.marks);
    const auto turn = std::find_if(rest.marks.begin(), rest.marks.end(),
                                   [](const auto& mark) { return mark.origin == Origin::turn; });
    if (turn != rest.marks.end()) {
        // A token may reach over the border: those count that the text before it has too.
        std::vector<int32_t> before;
        tokenizer_->encode(std::string_view(rest.bytes).substr(0, turn->begin), false, true, before,
                           rest.marks);
        const auto differs = std::mismatch(before.begin(), before.end(), chat.ids.begin(), chat.ids.end());
        chat.system_tokens = static_cast<uint32_t>(differs.first - before.begin());
    }
    chat.text = text.bytes;
    return chat;
}

}  // namespace edgekit
