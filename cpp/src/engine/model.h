#pragma once
// A model: the mapped package and what every session of it shares. Immutable, used by many threads at once.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "edgekit/edgekit.h"
#include "engine/companion.h"
#include "engine/relay.h"
#include "engine/sampling.h"
#include "format/edge_file.h"
#include "format/mapped_file.h"
#include "text/template/chat_template.h"
#include "text/tokenizer.h"
#include "threads/per_process.h"

namespace edgekit {

// A conversation as its model reads it.
struct EncodedChat {
    std::vector<int32_t> ids;
    std::string text;            // the whole, as the template wrote it
    uint32_t system_tokens = 0;  // ids before the first word of a message that is not the system's
};

// Messages from a caller, for Model::render_chat. Throws Error(invalid_argument) when they are not JSON.
json::Value parse_chat(std::string_view messages);

// Bytes of a package's tokenizer and template.
uint64_t text_bytes(const EdgeFile& file);

struct SessionPlan {
    CacheOptions cache;
    edgekit_memory_plan memory{};
};
// What a session with these options would allocate on so many threads (0: as many as the backend takes by
// itself); throws Error(over_budget) when the budget does not allow it.
SessionPlan plan_session(const BackendKind& kind, const ModelSpec& spec, const Weights& weights,
                         uint64_t text_bytes, uint64_t model_bytes, uint32_t n_threads,
                         const edgekit_session_options& options);

class Model {
public:
    Model(std::unique_ptr<MappedFile> bytes, const edgekit_model_options& options,
          const BackendKind& kind = kCpuBackend, std::unique_ptr<Companion> companion = nullptr);

    const EdgeFile& file() const { return file_; }
    const ModelSpec& spec() const { return spec_; }
    const Weights& weights() const { return weights_; }
    Backend& backend() const { return relay_.backend(); }
    Relay& relay() const { return relay_; }
    Companion* companion() const { return companion_.get(); }  // nullptr: there is none
    Sampling& sampling() const { return sampling_.get(); }
    uint64_t file_bytes() const { return bytes_->bytes().size(); }
    // nullptr when the package has none.
    const Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }
    const ChatTemplate* chat_template() const { return chat_template_ ? &*chat_template_ : nullptr; }
    // Bytes of tokenizer and template.
    uint64_t text_bytes() const { return edgekit::text_bytes(file_); }
    // Allocated when the model was opened, but for what is small.
    uint64_t own_bytes() const { return bytes_->allocated() + (bytes_->is_mapped() ? text_bytes() : 0); }
    // Throws Error(io_error) when the file was cut or written to since.
    void require_unchanged() const { bytes_->require_unchanged(); }
    bool ends_text(int32_t id) const;
    // Throws Error(invalid_argument) unless all are in the vocabulary; `name`: whose ids they are.
    void check_ids(std::span<const int32_t> ids, const char* name) const;
    // Identity of the weights, to which saved sessions are bound.
    const std::string& identity() const { return identity_; }
    const std::string& metadata_json() const { return metadata_json_; }
    const std::string& scheme() const { return scheme_; }

    // What options leave open as the companion has it.
    edgekit_session_options fitted(edgekit_session_options options) const;
    // See edgekit::plan_session.
    SessionPlan plan_session(const edgekit_session_options& options) const;

    // The sampling that the package's makers advise, and what they leave open as the engine has it: no
    // prompt, a random seed.
    const edgekit_generate_options& generate_defaults() const { return generate_defaults_; }

    // `messages`: an array of messages, or an object with everything the template reads; special tokens are
    // filled in.
    std::string render_chat(const json::Value& messages) const;
    // Encodes what render_chat gives, from byte `from` of the text on.
    EncodedChat encode_chat(const json::Value& messages, size_t from = 0) const;

private:
    MarkedText render_marked(const json::Value& messages) const;
    std::span<const std::byte> own_tensor(std::string_view name);

    std::unique_ptr<MappedFile> bytes_;
    EdgeFile file_;
    ModelSpec spec_;
    Weights weights_;
    std::unique_ptr<Companion> companion_;
    mutable Relay relay_;
    PerProcess<Sampling> sampling_;
    std::vector<std::unique_ptr<std::byte[]>> copies_;  // of own_tensor
    std::optional<Tokenizer> tokenizer_;
    std::optional<ChatTemplate> chat_template_;
    std::vector<int32_t> eos_ids_;
    edgekit_generate_options generate_defaults_;
    std::string identity_;
    std::string metadata_json_;
    std::string scheme_;
};

// The engine's own defaults.
edgekit_generate_options default_generate_options();

// The sinks of a session whose caller leaves them to the engine: so many until a conversation needs more, and
// then at most one position of the cache in so many.
constexpr uint32_t kFewestSinks = 4, kSinksShare = 4;

}  // namespace edgekit
