import EdgeKit
import Foundation
import XCTest

/// tests/golden, as every binding reads it.
enum Golden {
    static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("golden")

    static func model(_ name: String = "text.edge", threads: Int = 1) async throws -> Model {
        try await Model(folder.appendingPathComponent("engine").appendingPathComponent(name), threads: threads)
    }

    static func decode<Value: Decodable>(_ type: Value.Type, _ path: String) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: Data(contentsOf: folder.appendingPathComponent(path)))
    }
}

struct EngineCases: Decodable {
    let models: [ModelCase]
    let cases: [GenerationCase]
    let chats: [ChatCase]
    let states: [StateCase]
}

struct ModelCase: Decodable {
    let file: String
    let vocabSize: Int
    let layers: Int
    let scheme: String
}

struct SessionCase: Decodable {
    let window: Int
    let sinks: Int
    let kv: String

    var options: SessionOptions {
        let types: [String: SessionOptions.KvType] = ["f32": .f32, "f16": .f16, "int8": .int8, "int4": .int4]
        return SessionOptions(window: window, sinks: sinks, kv: types[kv]!)
    }
}

struct GenerateCase: Decodable {
    let maxTokens: Int?
    let ignoreEos: Bool?
    let temperature: Float?
    let topK: Int?
    let topP: Float?
    let minP: Float?
    let repetitionPenalty: Float?
    let seed: UInt64?
    let stopIds: [Int32]?

    var options: GenerateOptions {
        var options = GenerateOptions(
            maxTokens: maxTokens, ignoreEos: ignoreEos ?? false, seed: seed, temperature: temperature, topK: topK,
            topP: topP, minP: minP)
        options.repetitionPenalty = repetitionPenalty
        options.stopIds = stopIds ?? []
        return options
    }
}

struct GenerationCase: Decodable {
    let model: String
    let session: SessionCase
    let prompt: String?
    let promptIds: [Int32]?
    let messages: [MessageCase]?
    let generate: GenerateCase
    let ids: [Int32]
    let text: String
    let finish: String

    var start: Prompt {
        prompt.map { .text($0) } ?? messages.map { .messages($0.map(\.message)) } ?? .ids(promptIds!)
    }
}

struct MessageCase: Decodable {
    let role: String
    let content: String

    var message: Message { Message(.init(rawValue: role), content) }
}

struct ChatCase: Decodable {
    let model: String
    let messages: [MessageCase]
    let text: String
    let ids: [Int32]
}

struct StateCase: Decodable {
    let model: String
    let file: String
    let session: SessionCase
    let position: UInt64
    let promptIds: [Int32]
    let maxTokens: Int
    let ids: [Int32]
}

/// What a generation gave, in all.
struct Generated: Equatable {
    var ids: [Int32] = []
    var text = ""
    var evicted: [Range<UInt64>] = []
    var suspended = 0
    var moved: [String] = []
    var done: Done?

    init(_ stream: AsyncThrowingStream<Event, any Error>) async throws {
        for try await event in stream {
            switch event {
            case .text(let piece, let tokens): (text, ids) = (text + piece, ids + tokens)
            case .evicted(let range): evicted.append(range)
            case .suspended: suspended += 1
            case .moved(let name, _): moved.append(name)
            case .done(let last): done = last
            }
        }
    }
}

/// The error that `work` throws.
func thrown(_ work: () async throws -> Void) async -> (any Error)? {
    do { try await work() } catch { return error }
    return nil
}
