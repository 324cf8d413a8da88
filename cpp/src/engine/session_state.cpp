// A session as bytes: the part of its cache that is in use, its tokens and its place in them. Little-endian,
// the same on every platform and instruction set:
//
//   offset 0   "EDGEKITS", u32 version, u32 type of the cache, u32 window, u32 sinks, u32 chunk,
//              u32 pending token + 1 (0: none)
//          32  u64 position, u64 furthest position, u64 first token of the history,
//              u64 bytes of the text that the tokens spell (0: unknown)
//          64  32 bytes each: the digest of the tokens before the history's, and of that text
//         128  64 bytes of the weights' identity in hexadecimal, u64 sinks in use
//         200  of a model with recurrent layers alone: u64 position of each of 4 states, of the first input that
//              is remembered, of the one after the last, of the state that is kept (-1: no state)
//              the history's tokens, u32 each, from its first up to the position
//              for each layer and key/value head: the used slots' keys, then their values;
//              for a convolution: its used inputs; for a recurrent layer: those, then its states
//   end - 64   SHA-256 of everything before, in hexadecimal

#include <algorithm>
#include <cstring>

#include "engine/session.h"
#include "error.h"
#include "format/mapped_file.h"
#include "format/replacing_file.h"
#include "format/sha256.h"

namespace edgekit {

namespace {

constexpr char kMagic[8] = {'E', 'D', 'G', 'E', 'K', 'I', 'T', 'S'};
constexpr uint32_t kVersion = 3;
constexpr size_t kHashChars = 64;

struct Header {
    char magic[8];
    uint32_t version, kv_type, window, sinks, chunk, pending;
    uint64_t position, written, history_first, text_size;
    Sha256::Digest history_digest, text_digest;
    char identity[kHashChars];
    uint64_t sinks_now;
};
static_assert(sizeof(Header) == 200);

// Far beyond any text, and far from where sums of positions wrap.
constexpr uint64_t kMaxPosition = uint64_t{1} << 48;

[[noreturn]] void unfit(const std::string& what) {
    throw Error(Status::invalid_file, "this saved session cannot be restored here: " + what);
}

static_assert(sizeof(StateSlots::Record) == 56);

uint64_t record_size(const CacheLayout& layout) {
    return layout.has_states() ? sizeof(StateSlots::Record) : 0;
}

// Whether the text can go on from one of the states.
bool sound(const StateSlots::Record& states, const Header& header, const CacheLayout& layout) {
    if (!layout.has_states()) return true;
    StateSlots slots;
    slots.restore(states);
    const uint64_t oldest = header.position - layout.rewindable(header.position, header.written);
    return states.sound(header.position) &&
           slots.first(std::max(oldest, header.history_first)) <= header.position;
}

uint64_t size_of(const std::vector<CellRange>& cells) {
    uint64_t size = 0;
    for (const CellRange& range : cells) size += range.size;
    return size;
}

}  // namespace

uint64_t Session::state_size() const {
    const TokenHistory& tokens = cache_.tokens();
    return sizeof(Header) + record_size(cache_.layout()) +
           (tokens.size() - tokens.first()) * sizeof(int32_t) +
           size_of(cache_.layout().used(cache_.written(), cache_.states().used())) + kHashChars;
}

template <class Put>
void Session::write_pieces(const Put& put) {
    Sha256 hash;
    const auto add = [&](const void* data, size_t size) {
        const std::span bytes(static_cast<const std::byte*>(data), size);
        hash.update(bytes);
        put(bytes);
    };
    const CacheOptions& created = plan_.cache;
    const TokenHistory& tokens = cache_.tokens();
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.version = kVersion;
    header.kv_type = static_cast<uint32_t>(created.type);
    header.window = created.window;
    header.sinks = created.sinks;
    header.chunk = created.chunk;
    header.pending = pending_ ? static_cast<uint32_t>(*pending_) + 1 : 0;
    header.position = position();
    header.written = cache_.written();
    header.history_first = tokens.first();
    header.history_digest = tokens.digest();
    header.text_size = known_text_.size;
    header.text_digest = known_text_.digest;
    std::memcpy(header.identity, model_->identity().data(), kHashChars);
    header.sinks_now = cache_.options().sinks;
    add(&header, sizeof header);
    add(&cache_.states(), record_size(cache_.layout()));
    for (uint64_t p = tokens.first(); p < tokens.size(); ++p) {
        const int32_t id = tokens.at(p);
        add(&id, sizeof id);
    }
    cache_.save_cells([&](std::span<const std::byte> bytes) { add(bytes.data(), bytes.size()); });
    const std::string hex = hash.hex();
    put(std::as_bytes(std::span(hex)));
}

void Session::write_state(std::byte* out) {
    write_pieces([&](std::span<const std::byte> bytes) { out = std::ranges::copy(bytes, out).out; });
}

void Session::read_state(std::span<const std::byte> bytes) {
    Header header;
    const CacheLayout& layout = cache_.layout();
    const size_t before_tokens = sizeof header + record_size(layout);
    if (bytes.size() < before_tokens + kHashChars)
        unfit("it has only " + std::to_string(bytes.size()) + " bytes");
    std::memcpy(&header, bytes.data(), sizeof header);
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) unfit("these bytes are no saved session");
    if (header.version != kVersion)
        throw Error(Status::unsupported, "the saved session has version " + std::to_string(header.version) +
                                             ", this edgekit reads " + std::to_string(kVersion) +
                                             ": save it again");
    if (std::string_view(header.identity, kHashChars) != model_->identity())
        unfit("it was saved with other weights; restore it with the model it was saved from");
    const CacheOptions& cache = plan_.cache;
    if (header.kv_type != static_cast<uint32_t>(cache.type) || header.window != cache.window ||
        header.sinks != cache.sinks || header.chunk != cache.chunk) {
        unfit("it has a window of " + std::to_string(header.window) + " with " +
              std::to_string(header.sinks) + " sinks in steps of " + std::to_string(header.chunk) +
              " and cache type " + std::to_string(header.kv_type) + ", this session " +
              std::to_string(cache.window) + " with " + std::to_string(cache.sinks) + " in steps of " +
              std::to_string(cache.chunk) + " and type " + std::to_string(static_cast<uint32_t>(cache.type)) +
              "; create the session with the same options");
    }
    const std::span<const std::byte> content = bytes.first(bytes.size() - kHashChars);
    const std::string_view hash(reinterpret_cast<const char*>(content.data() + content.size()), kHashChars);
    if (sha256_hex(content) != hash) unfit("its SHA-256 does not match: it is damaged");
    StateSlots::Record states;
    std::memcpy(&states, bytes.data() + sizeof header, record_size(layout));
    // The position was reached by taking tokens back from the furthest one, and the history reaches as far.
    const bool agrees =
        header.written <= kMaxPosition && header.position <= header.written &&
        header.written - header.position <= layout.rewindable(header.written, header.written) &&
        header.history_first <= header.position &&
        header.position - header.history_first <= cache_.tokens().capacity() &&
        (layout.has_states() ||
         header.position - header.history_first >= layout.rewindable(header.position, header.written)) &&
        header.pending <= model_->spec().vocab_size && header.sinks_now >= cache.sinks &&
        header.sinks_now < cache.capacity() && sound(states, header, layout);
    if (!agrees) unfit("its numbers do not agree with each other");
    const uint64_t needed = before_tokens + (header.position - header.history_first) * sizeof(int32_t) +
                            size_of(layout.used(header.written, states.used())) + kHashChars;
    if (needed != bytes.size())
        unfit("it has " + std::to_string(bytes.size()) + " bytes, " + std::to_string(needed) + " are needed");

    const std::byte* in = content.data() + before_tokens;
    std::vector<int32_t> ids(header.position - header.history_first);
    std::memcpy(ids.data(), in, ids.size() * sizeof(int32_t));
    model_->check_ids(ids, "the saved session");

    reset();
    cache_.set_sinks(static_cast<uint32_t>(header.sinks_now));
    cache_.restore(header.history_first, header.history_digest, ids, header.written, states,
                   in + ids.size() * sizeof(int32_t));
    known_text_ = {header.text_size, header.text_digest};
    if (header.pending) pending_ = static_cast<int32_t>(header.pending - 1);
    evicted_reported_ = cache_.evicted();
}

void Session::save(const std::string& path) {
    ReplacingFile file(path);
    write_pieces([&](std::span<const std::byte> bytes) { file.write(bytes); });
    file.commit();
}

void Session::restore(const std::string& path) {
    const MappedFile file(path);
    read_state(file.bytes());
}

}  // namespace edgekit
