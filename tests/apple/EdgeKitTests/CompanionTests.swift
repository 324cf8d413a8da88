import EdgeKit
import Foundation
import XCTest

/// A folder with a companion beside the model. Linux has no runtime for one: what is tested is that a model does
/// without.
final class CompanionTests: XCTestCase {
    private static let facts = """
        {"format": "FORMAT", "packages": ["model.mlpackage"], "vocab_size": 105, "d_model": 64, "window": 40, "sinks": 4,
         "chunk": 32, "width": 1, "conv_kernel": 0, "columns": false, "contexts": [128], "scheme": "q4", "eos_ids": [2],
         "rings": [{"sinks": 4, "window": 40, "turn": 71, "slots": 128}], "ropes": [{"inv_freq": [1, 0.1], "factor": 1}]}
        """

    private func folder(_ companion: String) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("model.edge")
        try FileManager.default.copyItem(at: Golden.folder.appendingPathComponent("engine/text.edge"), to: file)
        try Data(companion.utf8).write(to: folder.appendingPathComponent("companion.json"))
        return file
    }

    #if os(Linux)
    func testAModelDoesWithoutACompanion() async throws {
        let model = try await Model(folder(Self.facts.replacingOccurrences(of: "FORMAT", with: "coreml")), threads: 1)
        XCTAssertNil(model.companionState)
        let told = try await Generated(
            Session(model).generate("Once", GenerateOptions(maxTokens: 5, ignoreEos: true, temperature: 0)))
        XCTAssertEqual(told.ids.count, 5)
        XCTAssertEqual(told.done?.computedBy, "cpu")
        XCTAssertEqual(told.moved, [])
    }
    #endif

    func testWhatIsNotACompanionIsRefused() async throws {
        for (text, says) in [("{}", "not what edgekit writes"), (Self.facts, "'FORMAT'")] {
            let file = try folder(text)
            let error = await thrown { _ = try await Model(file) }
            XCTAssertTrue("\(error!)".contains(says), "\(error!)")
            _ = try await Model(file, companion: false)
        }
    }
}
