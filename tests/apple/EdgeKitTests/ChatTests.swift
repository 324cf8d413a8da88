import EdgeKit
import XCTest

final class ChatTests: XCTestCase {
    private let options = GenerateOptions(maxTokens: 12, ignoreEos: true, temperature: 0)

    func testTurnsAreTheSameConversationGivenWhole() async throws {
        let model = try await Golden.model()
        let chat = try ChatSession(model, system: "Be brief.")
        let first = try await chat.say("hi", options).text
        let second = try await Generated(chat.say("and?", options))
        let messages = await chat.messages
        XCTAssertEqual(
            messages,
            [
                Message(.system, "Be brief."), Message(.user, "hi"), Message(.assistant, first), Message(.user, "and?"),
                Message(.assistant, second.text),
            ])
        XCTAssertGreaterThan(try XCTUnwrap(second.done).stats.cachedTokens, 10)

        let fresh = try Session(model)
        let afresh = try await Generated(fresh.generate(.messages(messages.dropLast()), options))
        XCTAssertEqual(afresh.ids, second.ids)
    }

    func testAgainBackAndAnew() async throws {
        let chat = try await ChatSession(Golden.model())
        for again in [{ _ = try await chat.regenerate().text }, { try await chat.undo() }] as [() async throws -> Void]
        {
            guard case .invalidArgument = await thrown(again) as? EdgeKitError else { return XCTFail("no question") }
        }
        let first = try await chat.say("hi", options).text
        let again = try await chat.regenerate(options).text
        XCTAssertEqual(again, first)
        _ = try await chat.say("more", options).text
        let question = try await chat.undo()
        XCTAssertEqual(question, Message(.user, "more"))
        var messages = await chat.messages
        XCTAssertEqual(messages, [Message(.user, "hi"), Message(.assistant, first)])
        await chat.setMessages(messages + [Message(.tool, "3")])
        let reply = try await chat.reply(options).text
        await chat.setSystem("Be brief.")
        await chat.setSystem("Be kind.")
        messages = await chat.messages
        XCTAssertEqual(messages.map(\.role), [.system, .user, .assistant, .tool, .assistant])
        XCTAssertEqual(messages.last?.content, reply)
        try await chat.reset()
        messages = await chat.messages
        XCTAssertEqual(messages, [Message(.system, "Be kind.")])
    }

    func testAnAnswerThatIsDroppedKeepsWhatItSaid() async throws {
        let chat = try await ChatSession(Golden.model())
        var said = ""
        for try await event in chat.say("hi", options) {
            said += event.text
            if said.count > 3 { break }
        }
        let answer = try await chat.say("go on", options).text
        let messages = await chat.messages
        XCTAssertEqual(messages.map(\.role), [.user, .assistant, .user, .assistant])
        XCTAssertEqual(messages[1].content, said)
        XCTAssertEqual(messages[3].content, answer)
    }

    func testATurnThatFailsNeverWas() async throws {
        let chat = try await ChatSession(Golden.model(), options: SessionOptions(window: 16, sinks: 0, onFull: .error))
        let error = await thrown {
            _ = try await chat.say(String(repeating: "too long ", count: 40), self.options).text
        }
        guard case .contextFull = error as? EdgeKitError else { return XCTFail("\(error as Any)") }
        let messages = await chat.messages
        XCTAssertEqual(messages, [])
    }

    func testAModelWithoutTemplateSaysSo() async throws {
        let model = try await Golden.model("windows.edge")
        XCTAssertNil(model.tokenizer)
        let error = await thrown { _ = try await ChatSession(model).say("hi").text }
        guard case .unsupported = error as? EdgeKitError else { return XCTFail("\(error as Any)") }
    }

    func testToolsAndVariablesReachTheTemplate() async throws {
        let model = try await Golden.model()
        let tools: [JSON] = [["type": "function", "function": ["name": "now", "strict": true]]]
        let hi = [Message(.user, "hi", members: ["tool_call_id": "1"])]
        let plain = try model.renderChat(hi)
        XCTAssertEqual(try model.renderChat(hi, tools: tools, templateVariables: ["enable_thinking": false]), plain)
        let silent = try model.renderChat(hi, templateVariables: ["add_generation_prompt": false])
        XCTAssertTrue(plain.hasPrefix(silent) && plain != silent)
        XCTAssertThrowsError(try model.renderChat(hi, templateVariables: ["x": .double(.nan)]))
    }
}
