import Foundation

/// What the bytes in a `.part`, or in a finished file, belong to: JSON beside it, the same in all bindings.
struct PartState: Codable, Equatable {
    var url: String
    var etag: String?
    var lastModified: String?
    var size: Int64?
    var sha256: String?

    private enum CodingKeys: String, CodingKey {
        case url, etag, size, sha256
        case lastModified = "last_modified"
    }

    /// A weak ETag does not promise equal bytes, so it cannot join two halves.
    var validator: String? {
        if let etag, !etag.hasPrefix("W/") { return etag }
        return lastModified
    }

    static func read(_ file: URL, of url: URL) -> PartState? {
        guard let data = try? Data(contentsOf: file.appendingPathExtension("json")),
            let state = try? JSONDecoder().decode(PartState.self, from: data), state.url == url.absoluteString
        else { return nil }
        return state
    }

    func write(_ file: URL) throws {
        try JSONEncoder().encode(self).write(to: file.appendingPathExtension("json"), options: .atomic)
    }

    static func remove(_ file: URL) {
        try? FileManager.default.removeItem(at: file.appendingPathExtension("json"))
    }
}
