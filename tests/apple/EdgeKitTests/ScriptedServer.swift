import Foundation

#if canImport(Glibc)
import Glibc
private let stream = Int32(SOCK_STREAM.rawValue)
#else
import Darwin
private let stream = SOCK_STREAM
#endif

struct DownloadGolden: Decodable {
    let size: Int
    let sha256: [String: String]
    let cases: [DownloadCase]
}

struct DownloadCase: Decodable {
    let name: String
    let pin: String?
    let sumBeside: String?
    let freeBytes: Int64?
    let before: Before?
    let exchanges: [Exchange]
    let result: DownloadResult
}

struct DownloadResult: Decodable {
    let version: String?
    let error: String?
    let partBytes: Int
}

struct Before: Decodable {
    struct Part: Decodable {
        let version: String
        let bytes: Int
        let size: Int?
        let etag: String?
        let lastModified: String?
    }
    struct File: Decodable {
        let version: String
        let etag: String?
    }
    let part: Part?
    let file: File?
}

struct Exchange: Decodable {
    let request: [String: String?]
    let response: Answer?
}

struct Answer: Decodable {
    let status: Int
    let headers: [String: String]
    let body: Body?
}

struct Body: Decodable {
    let version: String
    let first: Int
    let last: Int

    init(_ version: String, _ first: Int, _ last: Int) {
        (self.version, self.first, self.last) = (version, first, last)
    }
}

/// Bytes [first, last) of a version, as download.json defines them.
func body(_ version: String, _ first: Int, _ last: Int) -> Data {
    let (factor, offset, modulus) = version == "a" ? (31, 7, 251) : (17, 3, 241)
    return Data((first..<last).map { (i: Int) -> UInt8 in UInt8((factor * i + offset) % modulus) })
}

/// Answers the exchanges in their order, one connection each; `complaints` says what was not as written.
final class ScriptedServer: @unchecked Sendable {
    let port: UInt16
    private let listener: Int32
    private let sumBeside: String?
    private let hangs: Bool  // after the last answer the connection stays open
    private let lock = NSLock()
    private var exchanges: [Exchange]
    private var wrong: [String] = []
    private var open: [Int32] = []

    var complaints: [String] { lock.withLock { wrong } }
    var left: Int { lock.withLock { exchanges.count } }

    init(_ exchanges: [Exchange], sumBeside: String? = nil, hangs: Bool = false) throws {
        (self.exchanges, self.sumBeside, self.hangs) = (exchanges, sumBeside, hangs)
        listener = socket(AF_INET, stream, 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 16) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        guard bound else { throw POSIXError(.EADDRNOTAVAIL) }
        port = UInt16(bigEndian: address.sin_port)
        Thread { [self] in
            while case let connection = accept(listener, nil, nil), connection >= 0 { answer(connection) }
            close(listener)  // here and not in stop(): its number must not be another's while this thread waits
        }.start()
    }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        for connection in lock.withLock({ open }) { close(connection) }
    }

    private func answer(_ connection: Int32) {
        let (path, headers) = read(connection)
        lock.lock()
        var answer: Answer?
        if path.hasSuffix(".sha256") {
            let text = sumBeside.map { "\($0)  m.edge\n" }
            let head = "HTTP/1.1 \(text == nil ? 404 : 200) X\r\nContent-Length: \(text?.utf8.count ?? 0)\r\n\r\n"
            reply(connection, Data((head + (text ?? "")).utf8))
        } else if exchanges.isEmpty {
            wrong.append("a request too many: \(headers)")
        } else {
            let exchange = exchanges.removeFirst()
            for (name, value) in exchange.request where headers[name.lowercased()] != value {
                wrong.append("\(name) is \(headers[name.lowercased()] ?? "absent"), expected \(value ?? "none")")
            }
            answer = exchange.response
        }
        let stays = hangs && exchanges.isEmpty
        if stays { open.append(connection) }
        lock.unlock()
        if let answer {
            let lines = answer.headers.map { "\($0): \($1)\r\n" }.joined()
            reply(connection, Data("HTTP/1.1 \(answer.status) X\r\n\(lines)Connection: close\r\n\r\n".utf8))
            if let part = answer.body { self.reply(connection, body(part.version, part.first, part.last)) }
        }
        if !stays {
            shutdown(connection, Int32(SHUT_RDWR))
            close(connection)
        }
    }

    private func read(_ connection: Int32) -> (path: String, headers: [String: String]) {
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while !bytes.suffix(4).elementsEqual([13, 10, 13, 10]), recv(connection, &byte, 1, 0) == 1 {
            bytes.append(byte)
        }
        let lines = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\r\n")
        let path = lines[0].split(separator: " ").dropFirst().first.map(String.init) ?? ""
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(
                in: .whitespaces)
        }
        return (path, headers)
    }

    private func reply(_ connection: Int32, _ data: Data) {
        #if os(Linux)
        let quiet = Int32(MSG_NOSIGNAL)
        #else
        let quiet: Int32 = 0
        #endif
        _ = data.withUnsafeBytes { send(connection, $0.baseAddress, $0.count, quiet) }
    }
}
