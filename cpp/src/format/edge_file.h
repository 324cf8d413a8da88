#pragma once
// The `.edge` container (docs/format.md): a safetensors file with 64-byte aligned tensors and JSON metadata.
// Everything is checked against the file's size here, so that what a caller gets lies inside the bytes.

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/json.h"
#include "quant/layout.h"

namespace edgekit {

class EdgeFile {
public:
    // Throws Error(invalid_file) when the bytes are no sound package, Error(unsupported) for a version of the
    // format this build does not read. `bytes` must outlive the object and begin on 64 bytes.
    explicit EdgeFile(std::span<const std::byte> bytes);

    // The bytes of a tensor; empty when there is none of that name.
    std::span<const std::byte> tensor(std::string_view name) const;
    // A packed matrix, which must be [n, k]; an empty Matrix when there is none of that name.
    Matrix matrix(std::string_view name, uint32_t n, uint32_t k) const;
    // A float32 vector of n numbers (n_padded, with zeros, are readable); nullptr when there is none of that
    // name.
    const float* vector(std::string_view name, uint32_t n) const;

    const json::Value& spec() const { return spec_; }
    // A metadata member that holds a JSON document; null when absent.
    json::Value document(std::string_view name) const;
    // A metadata member that is plain text; empty when absent.
    std::string text(std::string_view name) const;
    // All metadata as one JSON object, documents parsed.
    std::string metadata_json() const;
    // Names of all tensors, in the file's order.
    const std::vector<std::string>& names() const { return names_; }
    // Compares every tensor with its SHA-256; throws Error(invalid_file) naming the first that differs.
    void verify_hashes() const;
    // SHA-256 over the tensors' recorded hashes: the weights' identity.
    std::string identity() const;

private:
    struct Entry {
        std::span<const std::byte> bytes;
        bool is_f32 = false;
        std::vector<int64_t> shape;
    };
    struct MatrixEntry {
        Layout layout;
        int64_t n, k;
    };

    std::map<std::string, Entry, std::less<>> entries_;
    std::map<std::string, MatrixEntry, std::less<>> matrices_;
    std::vector<std::string> names_;
    json::Value metadata_;
    json::Value spec_;
};

}  // namespace edgekit
