import CEdgeKit
import Dispatch
import Foundation

/// A `.edge` package, mapped from its file. Heavy: open it once and share it between sessions and tasks.
///
///     let model = try await Model(Bundle.main.url(forResource: "model", withExtension: "edge")!)
///     let chat = try ChatSession(model)
///     for try await event in chat.respond(to: "Tell me a story.") { print(event.text, terminator: "") }
public final class Model: Sendable {
    nonisolated(unsafe) let native: OpaquePointer
    public let url: URL
    public let vocabularySize: Int
    public let layerCount: Int
    /// Positions the model was trained for.
    public let context: Int
    public let threads: Int
    public let fileBytes: UInt64
    public let parameterCount: UInt64
    /// The instruction set in use, of `Model.instructionSets`.
    public let instructionSet: String
    /// The checkpoint's family: "llama", "qwen3", …
    public let family: String
    /// How the weights are stored: "q4", "q8", …
    public let scheme: String
    public let hasChatTemplate: Bool
    /// The package's whole metadata as JSON: licence, source, quality card, …
    public let metadata: String

    /// Maps the file, on a thread of its own.
    /// - Parameters:
    ///   - threads: nil lets the engine choose
    ///   - instructionSet: nil lets the engine choose; else one of `Model.instructionSets`
    ///   - verifyingHashes: read the whole file and check its SHA-256 sums before use
    public convenience init(
        _ url: URL, threads: Int? = nil, instructionSet: String? = nil, verifyingHashes: Bool = false
    ) async throws {
        let native = try await withCheckedThrowingContinuation { (done: CheckedContinuation<Opened, any Error>) in
            DispatchQueue.global(qos: .userInitiated).async {
                done.resume(
                    with: Result {
                        try Opened(url, threads: threads ?? 0, isa: instructionSet, verify: verifyingHashes)
                    })
            }
        }
        try self.init(native, url)
    }

    private init(_ opened: Opened, _ url: URL) throws(EdgeKitError) {
        var info = edgekit_model_info()
        info.struct_size = MemoryLayout<edgekit_model_info>.size
        native = opened.take()
        self.url = url
        var error = edgekit_error()
        let status = edgekit_model_get_info(native, &info, &error)
        vocabularySize = Int(info.vocab_size)
        layerCount = Int(info.n_layers)
        context = Int(info.context)
        threads = Int(info.n_threads)
        fileBytes = info.file_bytes
        parameterCount = info.n_parameters
        instructionSet = String(info.isa)
        family = String(info.model_type)
        scheme = String(info.scheme)
        hasChatTemplate = info.has_chat_template != 0
        metadata = String(info.metadata)
        if status != EDGEKIT_OK { throw EdgeKitError(error, status: status) }
    }

    deinit { edgekit_model_free(native) }

    /// nil when the package has none; prompts are then `Prompt.ids`.
    public var tokenizer: Tokenizer? { Tokenizer(self) }

    /// The prompt that the package's chat template makes of a conversation.
    public func render(_ messages: [Message]) throws(EdgeKitError) -> String {
        guard let json = try? JSONEncoder().encode(messages) else {
            throw .invalidArgument("the messages cannot be written as JSON")
        }
        return try render(context: String(decoding: json, as: UTF8.self))
    }

    /// The same from a JSON object with all that the template reads: "messages", "tools", "add_generation_prompt", …
    public func render(context: String) throws(EdgeKitError) -> String {
        let bytes = try fill(CChar(0)) { text, capacity, size, error in
            context.withBytes { edgekit_model_render_chat(native, $0, $1, text, capacity, size, error) }
        }
        return String(bytes: bytes)
    }

    /// What a session with these options would allocate.
    public func plan(_ options: SessionOptions = SessionOptions()) throws(EdgeKitError) -> MemoryPlan {
        var (plan, native) = (MemoryPlan.empty, options.native)
        try check { edgekit_plan(self.native, &native, &plan, $0) }
        return MemoryPlan(plan)
    }

    /// The same from the file's header alone, before anything is loaded. Throws `EdgeKitError.overBudget` when
    /// `options.memoryBudget` is too small.
    public static func plan(_ url: URL, _ options: SessionOptions = SessionOptions()) throws(EdgeKitError)
        -> MemoryPlan
    {
        var (plan, native) = (MemoryPlan.empty, options.native)
        try check { error in url.path.withCString { edgekit_can_load($0, &native, &plan, error) } }
        return MemoryPlan(plan)
    }

    /// Instruction sets this build has and this processor runs, best first.
    public static var instructionSets: [String] {
        String(cString: edgekit_isas()).split(separator: ",").map(String.init)
    }

    public static var version: String { String(cString: edgekit_version()) }
}

/// An open model on its way from the thread that opened it.
private final class Opened: @unchecked Sendable {
    private var native: OpaquePointer?

    init(_ url: URL, threads: Int, isa: String?, verify: Bool) throws {
        var options = edgekit_model_options()
        edgekit_model_options_init(&options)
        guard let count = UInt32(exactly: threads) else {
            throw EdgeKitError.invalidArgument("threads is \(threads); give 1 to 64, or nil")
        }
        options.n_threads = count
        options.verify_hashes = verify ? 1 : 0
        let name = isa.map(\.utf8CString)
        try check { error in
            url.path.withCString { path in
                guard let name else { return edgekit_model_open(path, &options, &native, error) }
                return name.withUnsafeBufferPointer {
                    options.isa = $0.baseAddress
                    return edgekit_model_open(path, &options, &native, error)
                }
            }
        }
    }

    func take() -> OpaquePointer {
        defer { native = nil }
        return native!
    }

    deinit { edgekit_model_free(native) }
}

/// One message of a conversation.
public struct Message: Sendable, Equatable, Codable {
    public enum Role: String, Sendable, Codable { case system, user, assistant, tool }

    public var role: Role
    public var content: String

    public init(_ role: Role, _ content: String) {
        self.role = role
        self.content = content
    }
}
