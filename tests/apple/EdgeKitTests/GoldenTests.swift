import EdgeKit
import XCTest

/// tests/golden: the same tokens and texts as every other binding, on every instruction set of this processor.
final class GoldenTests: XCTestCase {
    func testGenerations() async throws {
        let golden = try Golden.decode(EngineCases.self, "engine/cases.json")
        XCTAssertGreaterThan(golden.cases.count, 5)
        let finishes: [String: Finish] = ["eos": .eos, "length": .length, "stop": .stop]
        for isa in Model.isas {
            for one in golden.cases {
                let url = Golden.folder.appendingPathComponent("engine/\(one.model)")
                let model = try await Model(url, threads: 2, isa: isa, verifyHashes: true)
                XCTAssertEqual(model.isa, isa)
                let session = try Session(model, one.session.options)
                let result = try await Generated(session.generate(one.start, one.generate.options))
                XCTAssertEqual(result.ids, one.ids, "\(one.model) \(isa)")
                XCTAssertEqual(result.text, one.text, "\(one.model) \(isa)")
                let done = try XCTUnwrap(result.done)
                XCTAssertEqual(done.finish, finishes[one.finish])
                XCTAssertEqual(done.stats.generatedTokens, one.ids.count)
                XCTAssertEqual(done.seed, one.generate.seed ?? done.seed)
            }
        }
    }

    func testModels() async throws {
        for one in try Golden.decode(EngineCases.self, "engine/cases.json").models {
            let model = try await Golden.model(one.file)
            XCTAssertEqual(model.vocabSize, one.vocabSize)
            XCTAssertEqual(model.nLayers, one.layers)
            XCTAssertEqual(model.scheme, one.scheme)
            XCTAssertTrue(model.metadata.hasPrefix("{"))
        }
    }

    func testChatTemplates() async throws {
        for one in try Golden.decode(EngineCases.self, "engine/cases.json").chats {
            let model = try await Golden.model(one.model)
            let messages = one.messages.map(\.message)
            XCTAssertEqual(try model.renderChat(messages), one.text)
            XCTAssertEqual(try model.encodeChat(messages), one.ids)
        }
    }

    func testSavedStates() async throws {
        for one in try Golden.decode(EngineCases.self, "engine/cases.json").states {
            let session = try await Session(Golden.model(one.model), one.session.options)
            try await session.restore(from: Golden.folder.appendingPathComponent("engine/\(one.file)"))
            let position = try await session.position
            XCTAssertEqual(position, one.position)
            var options = GenerateOptions(maxTokens: one.maxTokens, ignoreEos: true, temperature: 0)
            options.append = true
            let result = try await Generated(session.generate(.ids(one.promptIds), options))
            XCTAssertEqual(result.ids, one.ids)
        }
    }

    func testTokenizerGoesThereAndBack() async throws {
        let model = try await Golden.model()
        let tokenizer = try XCTUnwrap(model.tokenizer)
        let long = String(repeating: "Straße 東京 🙂 ", count: 300)  // more than the first buffer holds
        for text in ["", "Hello", long] {
            let ids = try tokenizer.encode(text, addSpecialTokens: false)
            XCTAssertEqual(try tokenizer.decode(ids), text)
        }
        XCTAssertEqual(
            tokenizer.tokenToId("<|start|>").map { [$0] }, try tokenizer.encode("<|start|>", addSpecialTokens: false))
        XCTAssertNil(tokenizer.tokenToId("no such token"))
        let ids = try tokenizer.encode("Hello")
        XCTAssertEqual(try tokenizer.decode(ids), "<|begin|>Hello")
        XCTAssertEqual(try tokenizer.decode(ids, skipSpecialTokens: true), "Hello")
        XCTAssertEqual(ids.first, tokenizer.bosId)
        XCTAssertEqual(try tokenizer.tokenBytes(XCTUnwrap(tokenizer.eosId)), Array("<|end|>".utf8))
        XCTAssertNil(tokenizer.padId)
    }
}
