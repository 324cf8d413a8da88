#include "format/edge_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "error.h"
#include "format/sha256.h"
#include "quant/layouts.h"

namespace edgekit {

static_assert(std::endian::native == std::endian::little, "packages are used in place and are little-endian");

namespace {

constexpr uint64_t kMaxHeaderBytes = uint64_t{64} << 20;
constexpr int64_t kMaxDimension = int64_t{1} << 28;
constexpr std::string_view kVersion = "2";
constexpr std::string_view kMetadata = "__metadata__";
// Metadata that are text, not JSON documents.
constexpr std::array<std::string_view, 3> kPlain = {"format", "version", "scheme"};

[[noreturn]] void corrupt(const std::string& what) {
    throw Error(Status::invalid_file,
                what + "; the file is damaged or was not written by edgekit: convert it again");
}

// So that what is hostile costs a few times its size; of tensors and matrices, of which a package has many,
// one is held at a time.
json::ParseOptions limits(size_t document_bytes) {
    return {.max_bytes = 4 * document_bytes + (size_t{1} << 20)};
}

Layout layout_named(const std::string& tensor, const std::string& name) {
    for (const LayoutInfo& info : kLayouts)
        if (info.name == name) return info.layout;
    throw Error(Status::unsupported, "tensor '" + tensor + "' has layout '" + name +
                                         "', which this version of edgekit does not know");
}

}  // namespace

EdgeFile::EdgeFile(std::span<const std::byte> bytes) {
    if (reinterpret_cast<uintptr_t>(bytes.data()) % 64 != 0)
        throw Error(Status::invalid_argument, "a package in memory must begin on a multiple of 64 bytes");
    uint64_t header_bytes = 0;
    if (bytes.size() < 16)
        corrupt("the file has " + std::to_string(bytes.size()) + " bytes, too few for a header");
    if (bytes[8] != std::byte{'{'}) corrupt("it does not begin as a package does");
    std::memcpy(&header_bytes, bytes.data(), 8);
    if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - 8)
        corrupt("the header says it has " + std::to_string(header_bytes) + " bytes, the file has " +
                std::to_string(bytes.size()));
    const std::span<const std::byte> data = bytes.subspan(8 + header_bytes);
    if ((8 + header_bytes) % 64 != 0) corrupt("the tensors do not begin on a multiple of 64 bytes");

    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes);
    const auto for_members = [&](const auto& visit) {
        json::parse_members(text.substr(0, text.find_last_not_of(' ') + 1), visit, limits(text.size()));
    };
    for_members([&](const std::string& name, const json::Value& value) {
        if (name == kMetadata) metadata_ = value;
    });
    if (metadata_.is_null()) corrupt("the header has no metadata");
    if (this->text("format") != "edge") corrupt("this is a safetensors file, but not an .edge package");
    if (this->text("version") != kVersion) {
        throw Error(Status::unsupported, "the package has format version '" + this->text("version") +
                                             "', this edgekit reads version '" + std::string(kVersion) +
                                             "': update edgekit, or convert the model again");
    }

    std::vector<std::pair<uint64_t, uint64_t>> extents;
    for_members([&](const std::string& name, const json::Value& value) {
        if (name == kMetadata) return;
        Entry entry;
        const std::string& dtype = value.string_at("dtype");
        if (dtype != "F32" && dtype != "U8") corrupt("tensor '" + name + "' has dtype '" + dtype + "'");
        entry.is_f32 = dtype == "F32";
        uint64_t size = entry.is_f32 ? 4 : 1;
        for (const auto& dimension : value.array_at("shape")) {
            entry.shape.push_back(dimension.as_int_in(0, int64_t{1} << 40, name));
            if (__builtin_mul_overflow(size, static_cast<uint64_t>(entry.shape.back()), &size))
                corrupt("tensor '" + name + "' is too large");
        }
        const auto& offsets = value.array_at("data_offsets");
        if (offsets.size() != 2) corrupt("tensor '" + name + "' has no pair of offsets");
        const auto first =
            static_cast<uint64_t>(offsets[0].as_int_in(0, std::numeric_limits<int64_t>::max(), name));
        const auto last =
            static_cast<uint64_t>(offsets[1].as_int_in(0, std::numeric_limits<int64_t>::max(), name));
        if (first > last || last > data.size()) {
            corrupt("tensor '" + name + "' lies at bytes " + std::to_string(first) + " to " +
                    std::to_string(last) + ", the file holds " + std::to_string(data.size()));
        }
        if (last - first != size)
            corrupt("tensor '" + name + "' has " + std::to_string(last - first) + " bytes, its shape needs " +
                    std::to_string(size));
        if (first % 64 != 0) corrupt("tensor '" + name + "' does not begin on a multiple of 64 bytes");
        entry.bytes = data.subspan(first, size);
        extents.emplace_back(first, last);
        if (!entries_.emplace(name, std::move(entry)).second) corrupt("there are two tensors '" + name + "'");
        names_.push_back(name);
    });
    std::sort(extents.begin(), extents.end());
    for (size_t i = 1; i < extents.size(); ++i)
        if (extents[i].first < extents[i - 1].second)
            corrupt("tensors overlap at byte " + std::to_string(extents[i].first));

    const std::string matrices = this->text("matrices");
    if (matrices.empty()) corrupt("the metadata have no 'matrices'");
    const auto add_matrix = [&](const std::string& name, const json::Value& value) {
        const auto entry = entries_.find(name);
        if (entry == entries_.end()) corrupt("matrix '" + name + "' has no bytes");
        const auto& shape = value.array_at("shape");
        if (shape.size() != 2)
            corrupt("matrix '" + name + "' has " + std::to_string(shape.size()) + " dimensions");
        const MatrixEntry matrix{layout_named(name, value.string_at("layout")),
                                 shape[0].as_int_in(1, kMaxDimension, name),
                                 shape[1].as_int_in(1, kMaxDimension, name)};
        const auto tiles = static_cast<uint64_t>(matrix.n + kTileRows - 1) / kTileRows;
        const uint64_t needed =
            tiles * layout_info(matrix.layout).tile_bytes(static_cast<uint32_t>(matrix.k));
        if (entry->second.is_f32 || entry->second.bytes.size() != needed) {
            corrupt("matrix '" + name + "' has " + std::to_string(entry->second.bytes.size()) +
                    " bytes, its shape needs " + std::to_string(needed));
        }
        if (!matrices_.emplace(name, matrix).second) corrupt("there are two matrices '" + name + "'");
    };
    json::parse_members(matrices, add_matrix, limits(matrices.size()));
    spec_ = document("spec");
    if (!spec_.is_object()) corrupt("the metadata have no 'spec'");
}

std::span<const std::byte> EdgeFile::tensor(std::string_view name) const {
    const auto entry = entries_.find(name);
    return entry == entries_.end() ? std::span<const std::byte>{} : entry->second.bytes;
}

Matrix EdgeFile::matrix(std::string_view name, uint32_t n, uint32_t k) const {
    const auto found = matrices_.find(name);
    if (found == matrices_.end()) return {};
    const MatrixEntry& entry = found->second;
    if (entry.n != n || entry.k != k) {
        corrupt("matrix '" + std::string(name) + "' is [" + std::to_string(entry.n) + ", " +
                std::to_string(entry.k) + "], the model needs [" + std::to_string(n) + ", " +
                std::to_string(k) + "]");
    }
    return {tensor(name).data(), entry.layout, n, k, layout_info(entry.layout).tile_bytes(k)};
}

const float* EdgeFile::vector(std::string_view name, uint32_t n) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) return nullptr;
    const Entry& entry = found->second;
    const uint64_t needed = round_up64(uint64_t{n} * 4);
    if (!entry.is_f32 || entry.bytes.size() != needed)
        corrupt("vector '" + std::string(name) + "' has " + std::to_string(entry.bytes.size()) +
                " bytes, the model needs " + std::to_string(needed));
    return reinterpret_cast<const float*>(entry.bytes.data());
}

json::Value EdgeFile::document(std::string_view name) const {
    const json::Value* member = metadata_.find(name);
    if (!member) return {};
    const std::string& document = member->as_string(name);
    return json::parse(document, limits(document.size()));
}

std::string EdgeFile::text(std::string_view name) const {
    const json::Value* member = metadata_.find(name);
    return member ? member->as_string(name) : std::string();
}

std::string EdgeFile::metadata_json() const {
    std::string out = "{";
    for (const auto& [name, value] : metadata_.as_object("__metadata__")) {
        if (out.size() > 1) out += ',';
        const bool plain = std::find(kPlain.begin(), kPlain.end(), name) != kPlain.end();
        out += json::quote(name) + ':' + (plain ? json::quote(value.as_string(name)) : value.as_string(name));
    }
    return out + "}";
}

void EdgeFile::verify_hashes() const {
    const json::Value hashes = document("sha256");
    for (const auto& [name, entry] : entries_) {
        const json::Value* expected = hashes.find(name);
        if (!expected) corrupt("tensor '" + name + "' has no recorded hash");
        if (sha256_hex(entry.bytes) != expected->as_string(name))
            corrupt("tensor '" + name + "' does not match its SHA-256");
    }
}

std::string EdgeFile::identity() const {
    Sha256 hash;
    const json::Value hashes = document("sha256");
    for (const auto& [name, entry] : entries_) {
        const json::Value* recorded = hashes.find(name);
        const std::string line = name + '=' + (recorded ? recorded->as_string(name) : "") + '\n';
        if (matrices_.contains(name) || entry.is_f32) hash.update(std::as_bytes(std::span(line)));
    }
    return hash.hex();
}

}  // namespace edgekit
