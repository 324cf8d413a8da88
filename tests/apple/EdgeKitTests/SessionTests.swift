import EdgeKit
import Foundation
import XCTest

/// What a session promises beyond its tokens: cancellation, dropping, suspension, hibernation, errors.
final class SessionTests: XCTestCase {
    private let ring = SessionOptions(window: 24, sinks: 2, kv: .int8)

    private func endless(_ seed: UInt64 = 1) -> GenerateOptions {
        GenerateOptions(maxTokens: GenerateOptions.endless, ignoreEos: true, seed: seed)
    }

    func testCancellingTheTaskEndsTheGeneration() async throws {
        let session = try await Session(Golden.model(), ring)
        let options = endless()
        let first = expectation(description: "the first words")
        first.assertForOverFulfill = false
        let task = Task {
            var events = 0
            for try await _ in session.generate("Once", options) {
                events += 1
                first.fulfill()
            }
            return events
        }
        await fulfillment(of: [first], timeout: 60)
        task.cancel()
        let events = try await task.value
        XCTAssertGreaterThan(events, 0)
        let after = try await Generated(session.generate("Hello", GenerateOptions(maxTokens: 3, ignoreEos: true)))
        XCTAssertEqual(after.done?.finish, .length)
    }

    func testCancelFromAnotherThread() async throws {
        let session = try await Session(Golden.model(), ring)
        let result = try await Generated(
            AsyncThrowingStream { stream in
                let (options, session) = (endless(), session)
                Task {
                    for try await event in session.generate("Once", options) {
                        stream.yield(event)
                        Thread { session.cancel() }.start()
                    }
                    stream.finish()
                }
            })
        XCTAssertEqual(result.done?.finish, .cancelled)
    }

    func testANewGenerationEndsTheOneBefore() async throws {
        let session = try await Session(Golden.model(), ring)
        var old = session.generate("Once", endless()).makeAsyncIterator()
        let first = try await old.next()
        XCTAssertNotNil(first)
        let new = try await Generated(session.generate("Hello", GenerateOptions(maxTokens: 4, ignoreEos: true)))
        XCTAssertEqual(new.done?.stats.generatedTokens, 4)
        let rest = try await old.next()
        XCTAssertNil(rest)
    }

    func testOptionsReachTheEngine() async throws {
        let session = try await Session(Golden.model(), ring)
        var options = GenerateOptions(maxTokens: 12, ignoreEos: true, temperature: 0)
        let plain = try await Generated(session.generate("Hello", options))
        options.logitBias = Dictionary(uniqueKeysWithValues: Set(plain.ids).map { ($0, -Float.infinity) })
        let other = try await Generated(session.generate("Hello", options))
        XCTAssertTrue(Set(plain.ids).isDisjoint(with: other.ids))
        XCTAssertGreaterThan(other.done!.stats.cachedTokens, 0)

        let letters = plain.text.unicodeScalars.filter { $0 != "\u{FFFD}" }
        let last = String(Character(try XCTUnwrap(letters.last)))
        options.logitBias = [:]
        options.stop = ["never in this text", last]
        let stopped = try await Generated(session.generate("Hello", options))
        XCTAssertEqual(stopped.done?.finish, .stop)
        XCTAssertFalse(stopped.text.contains(last))
        XCTAssertTrue(plain.text.hasPrefix(stopped.text))
    }

    func testWhatIsNotGivenIsThePackages() async throws {
        let session = try await Session(Golden.model(), ring)
        let drawn = try await Generated(session.generate("Hello", GenerateOptions(ignoreEos: true)))
        XCTAssertEqual(drawn.done?.finish, .length)
        XCTAssertEqual(drawn.ids.count, 26)
        let seed = try XCTUnwrap(drawn.done?.seed)
        let same = GenerateOptions(ignoreEos: true, seed: seed, temperature: 0.7, topK: 20)
        try await session.reset()
        let again = try await Generated(session.generate("Hello", same))
        XCTAssertEqual(again.ids, drawn.ids)
        let other = try await Generated(session.generate("Hello", GenerateOptions(maxTokens: 1)))
        XCTAssertNotEqual(other.done?.seed, seed)
    }

    func testLogitsHaveTheVocabularysSize() async throws {
        let model = try await Golden.model()
        let session = try Session(model, ring)
        let ids = try XCTUnwrap(model.tokenizer).encode("Hello")
        let all = try await session.forward(ids, allLogits: true)
        XCTAssertEqual(all.count, ids.count * model.vocabSize)
        try await session.reset()
        let last = try await session.forward(ids)
        XCTAssertEqual(last, Array(all.suffix(model.vocabSize)))
    }

    func testEvictionsAreSeen() async throws {
        let session = try await Session(Golden.model(), ring)
        var options = endless()
        options.maxTokens = 80
        let result = try await Generated(session.generate("Once upon a time", options))
        XCTAssertEqual(result.evicted.first?.lowerBound, 2)
        for (one, next) in zip(result.evicted, result.evicted.dropFirst()) {
            XCTAssertEqual(one.upperBound, next.lowerBound)
        }
    }

    func testSaveForkRewindReset() async throws {
        let model = try await Golden.model()
        let session = try Session(model, ring)
        var options = GenerateOptions(maxTokens: 6, ignoreEos: true, temperature: 0)
        _ = try await Generated(session.generate("Hello", options))
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).session")
        defer { try? FileManager.default.removeItem(at: file) }
        try await session.save(to: file)
        let twin = try await session.fork()
        let restored = try Session(model, ring)
        try await restored.restore(from: file)
        options.append = true
        let all = try await [
            Generated(session.generate(.ids([72]), options)).ids, Generated(twin.generate(.ids([72]), options)).ids,
            Generated(restored.generate(.ids([72]), options)).ids,
        ]
        XCTAssertEqual(Set(all).count, 1)
        let position = try await session.position
        try await session.rewind(2)
        let rewound = try await session.position
        XCTAssertEqual(rewound, position - 2)
        try await session.reset()
        let zero = try await session.position
        XCTAssertEqual(zero, 0)
    }

    // MARK: Suspension and hibernation

    func testASuspendedGenerationRestsAndGoesOn() async throws {
        let model = try await Golden.model()
        var options = endless(7)
        options.maxTokens = 30
        let whole = try await Generated(Session(model, ring).generate("Once", options))

        let session = try Session(model, ring)
        var ids: [Int32] = []
        var rested = 0
        for try await event in session.generate("Once", options) {
            switch event {
            case .text(_, let tokens):
                ids += tokens
                if ids.count == 10 { try await session.react(to: .background) }
            case .suspended(let reason):
                XCTAssertEqual(reason, .background)
                let state = await session.state
                XCTAssertEqual(state, .suspended(.background))
                rested += 1
                Task { try await session.react(to: .foreground) }
            default: break
            }
        }
        XCTAssertEqual(rested, 1)
        XCTAssertEqual(ids, whole.ids)
    }

    func testASuspendedGenerationCanBeCancelled() async throws {
        let session = try await Session(Golden.model(), ring)
        await session.suspend(.requested)
        let options = endless()
        let resting = expectation(description: "rests")
        let task = Task {
            for try await event in session.generate("Once", options) where event == .suspended(.requested) {
                resting.fulfill()
            }
        }
        await fulfillment(of: [resting], timeout: 60)
        task.cancel()
        try await task.value
    }

    func testHibernationFreesAndBringsBack() async throws {
        let session = try await Session(Golden.model(), ring)
        var options = GenerateOptions(maxTokens: 5, ignoreEos: true, temperature: 0)
        _ = try await Generated(session.generate("Hello", options))
        let twin = try await session.fork()
        let position = try await session.position
        try await session.react(to: .memoryPressure(.warning))
        var state = await session.state
        XCTAssertEqual(state, .hibernated)
        session.cancel()  // nothing there to cancel, and no crash
        let back = try await session.position
        XCTAssertEqual(back, position)
        state = await session.state
        XCTAssertEqual(state, .active)
        options.append = true
        let one = try await Generated(session.generate(.ids([72]), options))
        let other = try await Generated(twin.generate(.ids([72]), options))
        XCTAssertEqual(one.ids, other.ids)
    }

    func testCriticalPressureEndsAGeneration() async throws {
        let session = try await Session(Golden.model(), ring)
        var stream = session.generate("Once", endless()).makeAsyncIterator()
        _ = try await stream.next()
        try await session.react(to: .memoryPressure(.warning))
        var state = await session.state
        XCTAssertEqual(state, .active)
        try await session.react(to: .memoryPressure(.critical))
        state = await session.state
        XCTAssertEqual(state, .hibernated)
        let error = await thrown { _ = try await stream.next() }
        XCTAssertEqual(error as? EdgeKitError, .hibernated)
    }

    // MARK: Errors

    func testErrorsHaveTypes() async throws {
        let missing = await thrown { _ = try await Model(URL(fileURLWithPath: "/no/such.edge")) }
        guard case .io(let text) = missing as? EdgeKitError else { return XCTFail("\(missing as Any)") }
        XCTAssertTrue(text.contains("/no/such.edge"), text)

        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).edge")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data(repeating: 65, count: 4096).write(to: file)
        guard case .invalidFile = await thrown({ _ = try await Model(file) }) as? EdgeKitError else {
            return XCTFail("a file of letters")
        }
        XCTAssertThrowsError(try Model.canLoad(file))

        let model = try await Golden.model()
        let tight = await thrown { _ = try Session(model, SessionOptions(memoryBudget: 1000)) }
        guard case .overBudget(_, let needed) = tight as? EdgeKitError else { return XCTFail("\(tight as Any)") }
        XCTAssertGreaterThan(needed, 1000)
        XCTAssertLessThanOrEqual(try model.plan(SessionOptions(memoryBudget: needed)).totalBytes, needed)
        guard case .invalidArgument = await thrown({ _ = try await Model(model.url, threads: -1) }) as? EdgeKitError
        else { return XCTFail("-1 threads") }
        let session = try Session(model, ring)
        for negative in [
            { _ = try Session(model, SessionOptions(window: -1)) },
            { _ = try model.plan(SessionOptions(chunk: -1)) },
            { _ = try await Generated(session.generate("Once", GenerateOptions(maxTokens: -1))) },
            { try await session.rewind(-1) },
        ] as [() async throws -> Void] {
            let error = await thrown(negative)
            guard case .invalidArgument = error as? EdgeKitError else { return XCTFail("\(error as Any)") }
        }
        let id = await thrown { _ = try await Generated(session.generate(.ids([100_000]))) }
        guard case .invalidArgument = id as? EdgeKitError else { return XCTFail("\(id as Any)") }
    }

    func testPlansAgree() async throws {
        let model = try await Golden.model()
        let session = try Session(model, ring)
        let plan = try await session.plan
        XCTAssertEqual(plan, try model.plan(ring))
        XCTAssertEqual(plan.cacheBytes, try Model.canLoad(model.url, ring).cacheBytes)
        XCTAssertEqual(plan.window, 24)
        XCTAssertEqual(plan.kv, .int8)
    }
}
