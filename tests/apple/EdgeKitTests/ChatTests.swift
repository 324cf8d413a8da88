import EdgeKit
import XCTest

final class ChatTests: XCTestCase {
    private let options = GenerationOptions(maxTokens: 12)

    func testTurnsAreRememberedAndNotComputedAgain() async throws {
        let model = try await Golden.model()
        let chat = try ChatSession(model, instructions: "Be brief.")
        let first = try await chat.respond(to: "hi", options).text
        let second = try await Generated(chat.respond(to: "and?", options))
        let messages = await chat.messages
        XCTAssertEqual(
            messages,
            [
                Message(.system, "Be brief."), Message(.user, "hi"), Message(.assistant, first), Message(.user, "and?"),
                Message(.assistant, second.text),
            ])
        XCTAssertGreaterThan(try XCTUnwrap(second.statistics).cachedTokens, 10)

        // The same words, computed afresh.
        let fresh = try Session(model)
        let whole = try await Generated(fresh.generate(.chat(Array(messages.prefix(4))), options))
        XCTAssertEqual(whole.ids, second.ids)
    }

    func testAnAnswerThatIsDroppedKeepsWhatItSaid() async throws {
        let chat = try await ChatSession(Golden.model())
        var said = ""
        for try await event in chat.respond(to: "hi", options) {
            said += event.text
            if said.count > 3 { break }
        }
        let answer = try await chat.respond(to: "go on", options).text
        let messages = await chat.messages
        XCTAssertEqual(messages.map(\.role), [.user, .assistant, .user, .assistant])
        XCTAssertEqual(messages[1].content, said)
        XCTAssertEqual(messages[3].content, answer)
    }

    func testATurnThatFailsNeverWas() async throws {
        let chat = try await ChatSession(Golden.model(), options: SessionOptions(window: 16, sinks: 0, onFull: .fail))
        let error = await thrown {
            _ = try await chat.respond(to: String(repeating: "too long ", count: 40), self.options).text
        }
        guard case .contextFull = error as? EdgeKitError else { return XCTFail("\(error as Any)") }
        let messages = await chat.messages
        XCTAssertEqual(messages, [])
    }

    func testAModelWithoutTemplateSaysSo() async throws {
        let model = try await Golden.model("windows.edge")
        XCTAssertNil(model.tokenizer)
        XCTAssertThrowsError(try ChatSession(model)) { error in
            guard case .unsupported = error as? EdgeKitError else { return XCTFail("\(error)") }
        }
    }
}
