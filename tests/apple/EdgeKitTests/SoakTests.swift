import EdgeKit
import Foundation
import XCTest

/// A thousand lives of a session: memory stays flat, nothing crashes when it is dropped at work.
final class SoakTests: XCTestCase {
    private let options = SessionOptions(window: 64, sinks: 4, kv: .int8)

    private func cycle(_ model: Model, _ i: Int) async throws {
        let session = try Session(model, options)
        let generation = GenerateOptions(maxTokens: GenerateOptions.endless, ignoreEos: true, seed: UInt64(i))
        switch i % 4 {
        case 0:  // cancelled by its own call
            for try await _ in session.generate("Once upon a time", generation) { session.cancel() }
        case 1:  // dropped half read
            var stream = session.generate("Once upon a time", generation).makeAsyncIterator()
            _ = try await stream.next()
        case 2:  // its task cancelled while it computes, then everything dropped
            let task = Task { [generation] in try await session.generate("Once", generation).text }
            await Task.yield()
            task.cancel()
            if i % 8 == 2 { _ = try await task.value }
        default:  // hibernated half way, then dropped: its file must go with it
            var stream = session.generate("Once", generation).makeAsyncIterator()
            _ = try await stream.next()
            if i % 16 == 3 { try await session.hibernate() }
        }
    }

    func testAThousandSessions() async throws {
        let model = try await Golden.model(threads: 2)
        for i in 0..<100 { try await cycle(model, i) }
        let before = residentBytes()
        for i in 0..<1000 { try await cycle(model, i) }
        XCTAssertLessThan(residentBytes(), before + 8 << 20)
    }

    func testModelsComeAndGo() async throws {
        for _ in 0..<20 { _ = try await Session(Golden.model(threads: 2), options) }
        let before = residentBytes()
        for i in 0..<200 { try await cycle(Golden.model(threads: 2), i) }
        XCTAssertLessThan(residentBytes(), before + 8 << 20)
    }
}

/// Memory of this process that is in RAM.
func residentBytes() -> Int {
    #if os(Linux)
    let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ") ?? []
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
    #else
    var info = mach_task_basic_info()
    var count = mach_msg_type_number_t(MemoryLayout<mach_task_basic_info>.size / MemoryLayout<natural_t>.size)
    _ = withUnsafeMutablePointer(to: &info) {
        $0.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
            task_info(mach_task_self_, task_flavor_t(MACH_TASK_BASIC_INFO), $0, &count)
        }
    }
    return Int(info.resident_size)
    #endif
}
