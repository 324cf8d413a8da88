@_spi(Testing) import EdgeKit
import Foundation
import XCTest

/// Every rule of tests/golden/download.json against a server of flesh and sockets.
final class DownloadTests: XCTestCase {
    private var folder = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("edgekit-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    override func tearDown() { try? FileManager.default.removeItem(at: folder) }

    func testGoldenExchanges() async throws {
        let golden = try Golden.decode(DownloadGolden.self, "download.json")
        XCTAssertGreaterThan(golden.cases.count, 30)
        for (number, one) in golden.cases.enumerated() {
            let server = try ScriptedServer(one.exchanges, sumBeside: one.sumBeside.map { golden.sha256[$0]! })
            defer { server.stop() }
            let downloader = Downloader(directory: folder.appendingPathComponent("\(number)"))
            await downloader.configure(retryDelay: .zero, freeBytes: one.freeBytes)
            let plain = "http://127.0.0.1:\(server.port)/models/m%C3%A9.edge"
            let address = URL(string: one.pin.map { "\(plain)#sha256=\(golden.sha256[$0]!)" } ?? plain)!
            let target = try downloader.location(of: address)
            XCTAssertEqual(target.lastPathComponent, "mé.edge")
            try prepare(one.before, plain, target, golden.sha256)

            var kind: String?
            do {
                let file = try await downloader.fetch(address)
                XCTAssertEqual(file, target)
                let version = try XCTUnwrap(one.result.version, one.name)
                XCTAssertEqual(try Data(contentsOf: file), body(version, 0, golden.size), one.name)
            } catch let error as DownloadError {
                switch error {
                case .wrongHash: kind = "wrong_hash"
                case .noSpace: kind = "no_space"
                case .refused: kind = "refused"
                case .interrupted: kind = "interrupted"
                default: kind = "\(error)"
                }
                XCTAssertFalse(FileManager.default.fileExists(atPath: target.path), one.name)
            }
            XCTAssertEqual(kind, one.result.error, one.name)
            let part = (try? Data(contentsOf: target.appendingPathExtension("part")))?.count ?? 0
            XCTAssertEqual(part, one.result.partBytes, one.name)
            XCTAssertEqual(server.complaints, [], one.name)
            XCTAssertEqual(server.left, 0, one.name)
        }
    }

    func testProgressAndTwoAtOnce() async throws {
        let whole = Answer(
            status: 200, headers: ["ETag": "\"a1\"", "Content-Length": "1000"], body: Body("a", 0, 1000))
        let again = Answer(status: 304, headers: ["Content-Length": "0"], body: nil)
        let answers = [whole, again].map { Exchange(request: [:], response: $0) }
        let server = try ScriptedServer(answers)
        defer { server.stop() }
        let downloader = Downloader(directory: folder)
        let address = URL(string: "http://127.0.0.1:\(server.port)/m.edge")!
        let seen = Seen()
        async let one = downloader.fetch(address) { seen.add($0) }
        async let other = downloader.fetch(address) { seen.add($0) }
        let files = try await [one, other]
        XCTAssertEqual(Set(files).count, 1)
        XCTAssertEqual(seen.all.filter { $0.bytes == 1000 }.count, 1)
        XCTAssertEqual(seen.all.last?.fraction, 1)
        XCTAssertEqual(server.complaints, [])
    }

    func testCancellingKeepsThePart() async throws {
        let half = Answer(status: 200, headers: ["ETag": "\"a1\"", "Content-Length": "1000"], body: Body("a", 0, 400))
        let server = try ScriptedServer([Exchange(request: [:], response: half)], hangs: true)
        defer { server.stop() }
        let downloader = Downloader(directory: folder)
        let address = URL(string: "http://127.0.0.1:\(server.port)/m.edge")!
        let some = expectation(description: "some bytes")
        some.assertForOverFulfill = false
        let task = Task { try await downloader.fetch(address) { _ in some.fulfill() } }
        await fulfillment(of: [some], timeout: 60)
        task.cancel()
        let error = await thrown { _ = try await task.value }
        XCTAssertTrue(error is CancellationError, "\(error as Any)")
        let part = try downloader.location(of: address).appendingPathExtension("part")
        XCTAssertEqual(try Data(contentsOf: part).count, 400)
    }

    func testATaskThatIsCancelledAlready() async throws {
        let server = try ScriptedServer([])
        defer { server.stop() }
        let downloader = Downloader(directory: folder)
        let address = URL(string: "http://127.0.0.1:\(server.port)/m.edge")!
        for _ in 0..<20 {
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return try await downloader.fetch(address)
            }
            let error = await thrown { _ = try await task.value }
            XCTAssertTrue(error is CancellationError, "\(error as Any)")
        }
        XCTAssertEqual(server.complaints, [])
    }

    func testAddresses() async throws {
        let downloader = Downloader(directory: folder)
        for bad in ["ftp://host/m.edge", "file:///m.edge", "http://host/m.edge#sha256=12", "http://host/m.edge#part"] {
            let error = await thrown { _ = try await downloader.fetch(URL(string: bad)!) }
            guard case .badAddress = error as? DownloadError else { return XCTFail(bad) }
        }
    }

    private func prepare(_ before: Before?, _ url: String, _ target: URL, _ sums: [String: String]) throws {
        guard let before else { return }
        try FileManager.default.createDirectory(
            at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
        if let part = before.part {
            try body(part.version, 0, part.bytes).write(to: target.appendingPathExtension("part"))
            let state: [String: Any?] = [
                "url": url, "etag": part.etag, "last_modified": part.lastModified, "size": part.size,
            ]
            try json(state).write(to: target.appendingPathExtension("part.json"))
        }
        if let file = before.file {
            try body(file.version, 0, 1000).write(to: target)
            try json(["url": url, "etag": file.etag, "size": 1000, "sha256": sums[file.version]])
                .write(to: target.appendingPathExtension("json"))
        }
    }

    private func json(_ values: [String: Any?]) throws -> Data {
        try JSONSerialization.data(withJSONObject: values.compactMapValues { $0 })
    }
}

private final class Seen: @unchecked Sendable {
    private let lock = NSLock()
    private var values: [DownloadProgress] = []
    var all: [DownloadProgress] { lock.withLock { values } }
    func add(_ value: DownloadProgress) { lock.withLock { values.append(value) } }
}
