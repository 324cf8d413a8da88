import Foundation

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// One request, from the first missing byte on, written and summed as it comes. URLSession calls it on one queue.
final class Transfer: NSObject, URLSessionDataDelegate, @unchecked Sendable {
    enum Outcome {
        case notModified
        /// All bytes are in the part, and this is their sum.
        case finished(PartState, sha256: String)
        /// What is here cannot be joined to what is there. `whole`: ask as if there were no finished file either.
        case startAgain(whole: Bool)
        case interrupted(String)
    }

    private let url: URL
    private let target: URL
    private let have: PartState?
    private let pinned: String?
    private let free: @Sendable (URL) -> Int64
    private let progress: (@Sendable (DownloadProgress) -> Void)?

    private var part: URL { target.appendingPathExtension("part") }
    private var state: PartState?
    private var offset: Int64 = 0
    private var total: Int64?
    private var file: FileHandle?
    private var sum = SHA256()
    private var outcome: Result<Outcome, any Error>?
    private var end: Result<Outcome, any Error>?
    private var continuation: CheckedContinuation<Outcome, any Error>?

    init(
        _ url: URL, _ target: URL, have: PartState?, pinned: String?, free: @escaping @Sendable (URL) -> Int64,
        _ progress: (@Sendable (DownloadProgress) -> Void)?
    ) {
        (self.url, self.target, self.have, self.pinned) = (url, target, have, pinned)
        (self.free, self.progress) = (free, progress)
    }

    func run() async throws -> Outcome {
        var request = URLRequest(url: url, cachePolicy: .reloadIgnoringLocalCacheData, timeoutInterval: 30)
        request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
        state = PartState.read(part, of: url)
        if let validator = state?.validator, size(of: part) > 0 {
            offset = size(of: part)
            request.setValue("bytes=\(offset)-", forHTTPHeaderField: "Range")
            request.setValue(validator, forHTTPHeaderField: "If-Range")
        } else if let etag = have?.etag, pinned == nil || pinned == have?.sha256 {
            request.setValue(etag, forHTTPHeaderField: "If-None-Match")
        }
        let queue = OperationQueue()
        queue.maxConcurrentOperationCount = 1
        let session = URLSession(configuration: .ephemeral, delegate: self, delegateQueue: queue)
        defer { session.invalidateAndCancel() }
        let task = session.dataTask(with: request)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                queue.addOperation {
                    if let end = self.end { return continuation.resume(with: end) }  // cancelled before it began
                    self.continuation = continuation
                    task.resume()
                }
            }
        } onCancel: {
            task.cancel()
        }
    }

    /// A small text, or nothing.
    static func text(at url: URL) async -> String {
        let request = URLRequest(url: url, cachePolicy: .reloadIgnoringLocalCacheData, timeoutInterval: 30)
        return await withCheckedContinuation { done in
            let session = URLSession(configuration: .ephemeral)
            session.dataTask(with: request) { data, response, _ in
                let found = (response as? HTTPURLResponse)?.statusCode == 200
                done.resume(returning: found ? String(decoding: (data ?? Data()).prefix(4096), as: UTF8.self) : "")
                session.finishTasksAndInvalidate()
            }.resume()
        }
    }

    // MARK: URLSession's calls

    func urlSession(
        _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
        completionHandler: @escaping @Sendable (URLSession.ResponseDisposition) -> Void
    ) {
        do {
            if let early = try begin(response as! HTTPURLResponse) { outcome = .success(early) }
        } catch {
            outcome = .failure(error)
        }
        completionHandler(outcome == nil ? .allow : .cancel)
        if outcome != nil { dataTask.cancel() }  // Linux does not heed the answer above
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        guard outcome == nil, let file else { return }
        do {
            try file.write(contentsOf: data)
            sum.update(data: data)
            offset += Int64(data.count)
            progress?(DownloadProgress(bytes: offset, total: total))
        } catch {
            outcome = .failure(DownloadError.disk("\(target.path): cannot be written: \(error.localizedDescription)"))
            dataTask.cancel()
        }
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        try? file?.synchronize()
        try? file?.close()
        let end = outcome ?? ended(error)
        self.end = end
        continuation?.resume(with: end)
        continuation = nil
    }

    // MARK: What the answer means

    /// Opens the part where the answer's bytes begin, or says why they are not wanted.
    private func begin(_ response: HTTPURLResponse) throws -> Outcome? {
        let status = response.statusCode
        switch status {
        case 200, 206: break
        case 304: return .notModified
        case 416 where offset > 0: return .startAgain(whole: true)
        case 408, 425, 429, 500...: return .interrupted("the server answered \(status)")
        default: throw DownloadError.refused(url: url.absoluteString, status: status)
        }
        let (first, total) = extent(response)
        if status == 206, first != offset || (state?.size != nil && state?.size != total) {
            if offset > 0 { return .startAgain(whole: false) }
            throw DownloadError.refused(url: url.absoluteString, status: status)
        }
        let known = first > 0 ? state?.sha256 : nil
        (offset, self.total) = (first, total)
        let (needed, room) = ((total ?? 0) - offset, free(target.deletingLastPathComponent()))
        if needed > room { throw DownloadError.noSpace(needed: needed, free: room) }
        let new = PartState(
            url: url.absoluteString, etag: response.value(forHTTPHeaderField: "ETag"),
            lastModified: response.value(forHTTPHeaderField: "Last-Modified"), size: total,
            sha256: pinned ?? digest(response) ?? known)
        try new.write(part)
        state = new
        if offset == 0 { try Data().write(to: part) }
        let file = try FileHandle(forUpdating: part)
        self.file = file
        try sumWhatIsHere(file)
        return nil
    }

    private func sumWhatIsHere(_ file: FileHandle) throws {
        var left = Int(offset)
        while left > 0, let data = try file.read(upToCount: min(left, 1 << 20)), !data.isEmpty {
            sum.update(data: data)
            left -= data.count
        }
        try file.truncate(atOffset: UInt64(offset))
    }

    private func ended(_ error: (any Error)?) -> Result<Outcome, any Error> {
        if let error = error as? URLError, error.code == .cancelled { return .failure(CancellationError()) }
        if let error, file == nil || total.map({ offset < $0 }) ?? true {
            return .success(.interrupted(error.localizedDescription))
        }
        guard let state else { return .success(.interrupted("the connection broke without an answer")) }
        if let total, offset != total {
            return .success(.interrupted("the connection broke after \(offset) of \(total) bytes"))
        }
        return .success(.finished(state, sha256: sum.finalize().hex))
    }

    /// The first byte that is sent, and the size of the whole file when the server says.
    private func extent(_ response: HTTPURLResponse) -> (first: Int64, total: Int64?) {
        if response.statusCode == 200 {
            return (0, response.value(forHTTPHeaderField: "Content-Length").flatMap(Int64.init))
        }
        let range = response.value(forHTTPHeaderField: "Content-Range") ?? ""
        let numbers = range.dropFirst("bytes ".count).split { $0 == "-" || $0 == "/" }
        guard range.hasPrefix("bytes "), numbers.count == 3, let first = Int64(numbers[0]) else { return (-1, nil) }
        return (first, Int64(numbers[2]))
    }

    /// RFC 9530: `Repr-Digest: sha-256=:BASE64:` is the sum of the whole file.
    private func digest(_ response: HTTPURLResponse) -> String? {
        guard let value = response.value(forHTTPHeaderField: "Repr-Digest"),
            let start = value.range(of: "sha-256=:"),
            let end = value[start.upperBound...].firstIndex(of: ":"),
            let sum = Data(base64Encoded: String(value[start.upperBound..<end]))
        else { return nil }
        return sum.hex
    }
}

extension Sequence<UInt8> {
    var hex: String {
        map { (byte: UInt8) in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
    }
}
