import EdgeKit
import XCTest

/// tests/golden: the same tokens and texts as every other binding, on every instruction set of this processor.
final class GoldenTests: XCTestCase {
    func testGenerations() async throws {
        let golden = try Golden.decode(EngineCases.self, "engine/cases.json")
        XCTAssertGreaterThan(golden.cases.count, 5)
        for isa in Model.instructionSets {
            for one in golden.cases {
                let url = Golden.folder.appendingPathComponent("engine/\(one.model)")
                let model = try await Model(url, threads: 2, instructionSet: isa, verifyingHashes: true)
                XCTAssertEqual(model.instructionSet, isa)
                let session = try Session(model, one.session.options)
                let prompt: Prompt = one.prompt.map { .text($0) } ?? .ids(one.promptIds!)
                let result = try await Generated(session.generate(prompt, one.generate.options))
                XCTAssertEqual(result.ids, one.ids, "\(one.model) \(isa)")
                XCTAssertEqual(result.text, one.text, "\(one.model) \(isa)")
                XCTAssertEqual(result.finish, one.finish == "length" ? .length : .end)
                XCTAssertEqual(result.statistics?.generatedTokens, one.ids.count)
            }
        }
    }

    func testModels() async throws {
        for one in try Golden.decode(EngineCases.self, "engine/cases.json").models {
            let model = try await Golden.model(one.file)
            XCTAssertEqual(model.vocabularySize, one.vocabSize)
            XCTAssertEqual(model.layerCount, one.layers)
            XCTAssertEqual(model.scheme, one.scheme)
            XCTAssertTrue(model.metadata.hasPrefix("{"))
        }
    }

    func testChatTemplates() async throws {
        for one in try Golden.decode(EngineCases.self, "engine/cases.json").chats {
            let model = try await Golden.model(one.model)
            XCTAssertEqual(try model.render(one.messages), one.text)
        }
    }

    func testSavedStates() async throws {
        for one in try Golden.decode(EngineCases.self, "engine/cases.json").states {
            let session = try await Session(Golden.model(one.model), one.session.options)
            try await session.restore(from: Golden.folder.appendingPathComponent("engine/\(one.file)"))
            let position = try await session.position
            XCTAssertEqual(position, one.position)
            var options = GenerationOptions(maxTokens: one.maxTokens)
            options.append = true
            options.ignoreEnd = true
            let result = try await Generated(session.generate(.ids(one.promptIds), options))
            XCTAssertEqual(result.ids, one.ids)
        }
    }

    func testTokenizerGoesThereAndBack() async throws {
        let model = try await Golden.model()
        let tokenizer = try XCTUnwrap(model.tokenizer)
        let long = String(repeating: "Straße 東京 🙂 ", count: 300)  // more than the first buffer holds
        for text in ["", "Hello", long] {
            let ids = try tokenizer.encode(text, addSpecial: false)
            XCTAssertEqual(try tokenizer.decode(ids), text)
        }
        XCTAssertEqual(tokenizer.id(of: "<|start|>").map { [$0] }, try tokenizer.encode("<|start|>", addSpecial: false))
        XCTAssertNil(tokenizer.id(of: "no such token"))
    }
}
