#include "engine/model.h"

#include <algorithm>
#include <cstdlib>

#include "error.h"

namespace edgekit {

namespace {

constexpr uint32_t kMaxThreads = 64, kMaxDefaultThreads = 16;

const Kernels& choose_kernels(const char* isa) {
    if (!isa) isa = std::getenv("EDGEKIT_ISA");  // NOLINT(concurrency-mt-unsafe): read only
    if (isa && !*isa) isa = nullptr;
    const Kernels* found = find_kernels(isa);
    if (found) return *found;
    const Kernels* known[16];
    std::string names;
    for (size_t i = 0, n = list_kernels(known, 16); i < n; ++i)
        names += (i ? ", " : "") + std::string(known[i]->isa);
    throw Error(Status::unsupported,
                "instruction set '" + std::string(isa ? isa : "") +
                    "' is not in this build or not in this processor; there are: " + names);
}

}  // namespace

uint32_t default_threads(const Processors& processors) {
    return std::min(processors.usable, kMaxDefaultThreads);
}

Model::Model(std::unique_ptr<MappedFile> bytes, const edgekit_model_options& options)
    : bytes_(std::move(bytes)),
      file_(bytes_->bytes()),
      spec_(ModelSpec::parse(file_.spec())),
      weights_(spec_, file_),
      kernels_(choose_kernels(options.isa)),
      decoder_(spec_, weights_, kernels_),
      identity_(file_.identity()),
      metadata_json_(file_.metadata_json()),
      scheme_(file_.text("scheme")) {
    if (options.verify_hashes) file_.verify_hashes();
    if (const auto blob = file_.tensor("tokenizer"); !blob.empty()) tokenizer_.emplace(Tokenizer::open(blob));
    if (const auto blob = file_.tensor("chat_template"); !blob.empty())
        chat_template_.emplace(ChatTemplate::open(blob));
    const json::Value eos = file_.document("eos_ids");
    if (eos.is_array())
        for (const auto& id : eos.as_array("eos_ids"))
            eos_ids_.push_back(static_cast<int32_t>(id.as_int_in(0, spec_.vocab_size - 1, "eos_ids")));
    bytes_->read_ahead();
    if (options.n_threads > kMaxThreads)
        throw Error(Status::invalid_argument, "threads is " + std::to_string(options.n_threads) +
                                                  "; it must be at most " + std::to_string(kMaxThreads));
    const Processors processors = survey_processors();
    const uint32_t most = options.n_threads ? options.n_threads : default_threads(processors);
    thread_choice_ = options.n_threads
                         ? std::make_unique<ThreadChoice>(most)
                         : std::make_unique<ThreadChoice>(std::min(processors.fast_cores, most), most);
    // Of the processors that are not fast cores nothing is known but that.
    const bool only_fast = most <= processors.fast_cores;
    team_ = std::make_unique<ThreadTeam>(most, options.parallel, options.parallel_context,
                                         only_fast ? processors.evenness : 0.5f);
}

bool Model::ends_text(int32_t id) const {
    return std::find(eos_ids_.begin(), eos_ids_.end(), id) != eos_ids_.end();
}

std::string Model::render_chat(const json::Value& messages) const {
    if (!chat_template_)
        throw Error(Status::unsupported, "the package has no chat template: write the prompt by hand");
    json::Object context;
    context.set("add_generation_prompt", true);
    const json::Value special = file_.document("special_tokens");
    if (special.is_object())
        for (const auto& [name, value] : special.as_object("special_tokens")) context.set(name, value);
    if (messages.is_array()) {
        context.set("messages", messages);
    } else {
        for (const auto& [name, value] : messages.as_object("the chat")) context.set(name, value);
    }
    return chat_template_->render(json::Value(std::move(context)));
}

}  // namespace edgekit
