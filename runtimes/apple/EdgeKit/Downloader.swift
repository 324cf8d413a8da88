import Foundation

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// Fetches packages: resumable, checked, and whole or not at all. `tests/golden/download.json` states the rules, which
/// all bindings of edgekit share.
///
///     let file = try await Downloader().fetch(URL(string: "https://…/model.edge#sha256=…")!) { print($0.fraction ?? 0) }
///     let model = try await Model(file)
///
/// Bytes go to `NAME.part`, which the next run continues when the server still has the same file. The SHA-256 comes from
/// the address's fragment, else from a `Repr-Digest` header, else from a file `….sha256` beside it. A finished file whose
/// address carries its sum is never asked for again; any other is asked about, and used when the server is out of reach.
/// A system that suspends the app suspends the transfer with it.
public actor Downloader {
    public let directory: URL
    private var busy: Set<URL> = []
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private let attempts = 5  // in a row without a new byte

    @_spi(Testing) public var retryDelay = Duration.milliseconds(500)  // doubled each time
    @_spi(Testing) public var freeBytes: @Sendable (URL) -> Int64 = Downloader.roomOnDisk

    /// - Parameter directory: nil is the app's own: "EdgeKit" in Application Support, left out of backups
    public init(directory: URL? = nil) {
        self.directory =
            directory
            ?? FileManager.default.urls(for: .applicationSupportDirectory, in: .userDomainMask)[0]
            .appendingPathComponent("EdgeKit")
    }

    @_spi(Testing) public func configure(retryDelay: Duration, freeBytes: Int64?) {
        self.retryDelay = retryDelay
        if let freeBytes { self.freeBytes = { _ in freeBytes } }
    }

    /// Where the file at `address` lies when it is here.
    public nonisolated func location(of address: URL) throws(DownloadError) -> URL {
        let (url, _) = try Downloader.split(address)
        let folder = SHA256.hash(data: Data(url.absoluteString.utf8)).hex.prefix(16)
        let name = url.lastPathComponent.isEmpty || url.lastPathComponent == "/" ? "download" : url.lastPathComponent
        return directory.appendingPathComponent(String(folder)).appendingPathComponent(name)
    }

    /// The file at `address`, from here or from there. Cancelling the task stops the transfer and keeps its part.
    public func fetch(_ address: URL, progress: (@Sendable (DownloadProgress) -> Void)? = nil) async throws -> URL {
        let (url, pinned) = try Downloader.split(address)
        let target = try location(of: address)
        while busy.contains(target) { await withCheckedContinuation { waiting.append($0) } }
        busy.insert(target)
        defer {
            busy.remove(target)
            let all = waiting
            waiting = []
            for one in all { one.resume() }
        }
        do {
            try FileManager.default.createDirectory(
                at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
            leaveOutOfBackups(directory)
            return try await fetch(url, pinned, target, progress)
        } catch let error as CocoaError {
            throw DownloadError.disk("\(target.path): \(error.localizedDescription)")
        }
    }

    private func fetch(
        _ url: URL, _ pinned: String?, _ target: URL, _ progress: (@Sendable (DownloadProgress) -> Void)?
    ) async throws -> URL {
        let here = FileManager.default.fileExists(atPath: target.path) ? PartState.read(target, of: url) : nil
        if let here, let pinned, here.sha256 == pinned { return target }
        var (failures, ask) = (0, here)
        while true {
            let before = size(of: target.appendingPathExtension("part"))
            let transfer = Transfer(url, target, have: ask, pinned: pinned, free: freeBytes, progress)
            switch try await transfer.run() {
            case .notModified: return target
            case .finished(let state, let sum):
                try await finish(state, sum, pinned, target)
                return target
            case .startAgain(let whole):
                try? FileManager.default.removeItem(at: target.appendingPathExtension("part"))
                if whole { ask = nil }
            case .interrupted(let why):
                if here != nil && pinned == nil { return target }
                failures = size(of: target.appendingPathExtension("part")) > before ? 1 : failures + 1
                if failures >= attempts { throw DownloadError.interrupted("\(url): \(why)") }
                try await Task.sleep(for: retryDelay * (1 << (failures - 1)))
            }
        }
    }

    /// Checks the sum and gives the file its name.
    private func finish(_ state: PartState, _ sum: String, _ pinned: String?, _ target: URL) async throws {
        let part = target.appendingPathExtension("part")
        var expected = pinned ?? state.sha256
        if expected == nil { expected = await sumBeside(state.url) }
        if let expected, sum != expected {
            try? FileManager.default.removeItem(at: part)
            PartState.remove(part)
            throw DownloadError.wrongHash(found: sum, expected: expected)
        }
        var state = state
        state.sha256 = sum
        try state.write(target)
        guard rename(part.path, target.path) == 0 else {
            throw DownloadError.disk("\(target.path): cannot be written: \(String(cString: strerror(errno)))")
        }
        PartState.remove(part)
    }

    private func sumBeside(_ url: String) async -> String? {
        guard var parts = URLComponents(string: url) else { return nil }
        parts.percentEncodedPath += ".sha256"
        guard let beside = parts.url else { return nil }
        let text = await Transfer.text(at: beside)
        let digits = text.prefix { $0.isHexDigit }
        return digits.count == 64 ? digits.lowercased() : nil
    }

    /// The address without its sum, and the sum.
    private static func split(_ address: URL) throws(DownloadError) -> (URL, String?) {
        guard let scheme = address.scheme?.lowercased(), ["http", "https"].contains(scheme),
            var parts = URLComponents(url: address, resolvingAgainstBaseURL: true)
        else { throw .badAddress("\(address): edgekit fetches http and https only") }
        guard let fragment = parts.fragment else { return (address, nil) }
        parts.fragment = nil
        let sum = fragment.dropFirst("sha256=".count)
        guard fragment.hasPrefix("sha256="), sum.count == 64, sum.allSatisfy(\.isHexDigit), let url = parts.url else {
            throw .badAddress(
                "the address ends with #\(fragment); a pinned sum reads #sha256= and 64 hexadecimal digits")
        }
        return (url, sum.lowercased())
    }

    private static func roomOnDisk(_ folder: URL) -> Int64 {
        #if canImport(Darwin)
        let values = try? folder.resourceValues(forKeys: [.volumeAvailableCapacityForImportantUsageKey])
        return values?.volumeAvailableCapacityForImportantUsage ?? .max
        #else
        let values = try? FileManager.default.attributesOfFileSystem(forPath: folder.path)
        return (values?[.systemFreeSize] as? NSNumber)?.int64Value ?? .max
        #endif
    }

    private func leaveOutOfBackups(_ folder: URL) {
        #if canImport(Darwin)
        var (folder, values) = (folder, URLResourceValues())
        values.isExcludedFromBackup = true
        try? folder.setResourceValues(values)
        #endif
    }
}

public struct DownloadProgress: Sendable, Equatable {
    public let bytes: Int64
    /// nil when the server does not say.
    public let total: Int64?

    public var fraction: Double? { total.map { $0 > 0 ? Double(bytes) / Double($0) : 1 } }
}

/// Why a file did not arrive.
public enum DownloadError: Error, Sendable, Equatable {
    case badAddress(String)
    /// The connection broke, again and again. What came is kept: another call continues there.
    case interrupted(String)
    /// The server said no.
    case refused(url: String, status: Int)
    /// The bytes are not those that were promised; they were deleted.
    case wrongHash(found: String, expected: String)
    case noSpace(needed: Int64, free: Int64)
    case disk(String)
}

extension DownloadError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .badAddress(let text), .disk(let text): return text
        case .interrupted(let text): return "\(text); try again: the download continues where it stopped"
        case .refused(let url, let status): return "\(url): the server answered \(status)"
        case .wrongHash(let found, let expected):
            return "the downloaded bytes have SHA-256 \(found), expected \(expected); they were deleted"
        case .noSpace(let needed, let free): return "\(needed) bytes are needed, \(free) are free; make room"
        }
    }
}

func size(of file: URL) -> Int64 {
    let values = try? FileManager.default.attributesOfItem(atPath: file.path)
    return (values?[.size] as? NSNumber)?.int64Value ?? 0
}
