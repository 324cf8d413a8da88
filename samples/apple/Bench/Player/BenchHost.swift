import Foundation

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// The computer that runs `edgekit bench MODEL --device ios`: it has the plan and the model, and wants the recording.
public struct BenchHost: Sendable {
    public struct Refused: Error, CustomStringConvertible {
        public let description: String
    }

    private let address: URL
    private let session: URLSession

    /// `address` is what that command says: "http://192.168.1.2:8765/k7m2q9xw4t/".
    public init(_ address: String, session: URLSession = .shared) throws {
        let text = address.trimmingCharacters(in: .whitespacesAndNewlines)
        guard let url = URL(string: text), url.scheme != nil, url.host != nil else {
            let like = "http://192.168.1.2:8765/k7m2q9xw4t/"
            throw Refused(description: "\(text) is no address; the command prints one, such as \(like)")
        }
        (self.address, self.session) = (url, session)
    }

    public func plan() async throws -> Data {
        try await ask(URLRequest(url: address.appendingPathComponent("plan.json")))
    }

    /// Into a file, whole or not at all, and never whole in memory.
    public func model(to file: URL) async throws {
        let request = URLRequest(url: address.appendingPathComponent("model.edge"))
        let (arrived, response) = try await session.download(for: request)
        try check(request, response)
        try? FileManager.default.removeItem(at: file)
        try FileManager.default.moveItem(at: arrived, to: file)
    }

    public func tell(done: Int, total: Int) async {
        _ = try? await post("progress", Data(#"{"done": \#(done), "total": \#(total)}"#.utf8))
    }

    public func send(_ recording: Data) async throws { _ = try await post("recording", recording) }

    public func giveUp(_ reason: String) async { _ = try? await post("failure", Data(reason.utf8)) }

    private func post(_ path: String, _ body: Data) async throws -> Data {
        var request = URLRequest(url: address.appendingPathComponent(path))
        request.httpMethod = "POST"
        request.httpBody = body
        return try await ask(request)
    }

    private func ask(_ request: URLRequest) async throws -> Data {
        let (data, response) = try await session.data(for: request)
        try check(request, response, data)
        return data
    }

    private func check(_ request: URLRequest, _ response: URLResponse, _ answer: Data = Data()) throws {
        let status = (response as? HTTPURLResponse)?.statusCode ?? 0
        guard status == 200 else {
            let (url, why) = (request.url?.absoluteString ?? "", String(decoding: answer.prefix(300), as: UTF8.self))
            throw Refused(description: "\(url) was answered with status \(status): \(why)")
        }
    }
}
