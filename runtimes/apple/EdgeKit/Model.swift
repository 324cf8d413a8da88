import CEdgeKit
import Dispatch
import Foundation

/// A `.edge` package, mapped from its file. Heavy: open it once and share it between sessions and tasks.
///
///     let model = try await Model(Bundle.main.url(forResource: "model", withExtension: "edge")!)
///     let chat = try ChatSession(model)
///     for try await event in chat.say("Tell me a story.") { print(event.text, terminator: "") }
public final class Model: Sendable {
    nonisolated(unsafe) let native: OpaquePointer
    public let url: URL
    public let vocabSize: Int
    public let nLayers: Int
    public let dModel: Int
    /// Positions the model was trained for.
    public let context: Int
    public let threads: Int
    public let fileBytes: UInt64
    /// Of the tensors the decoder reads.
    public let weightBytes: UInt64
    public let nParameters: UInt64
    /// The instruction set in use, of `Model.isas`.
    public let isa: String
    /// The checkpoint's family: "llama", "qwen3", …
    public let modelType: String
    /// How the weights are stored: "q4", "q8", …
    public let scheme: String
    public let hasTokenizer: Bool
    public let hasChatTemplate: Bool
    /// The package's whole metadata as JSON: licence, source, quality card, …
    public let metadata: String
    nonisolated(unsafe) private let companion: edgekit_companion?

    /// Maps the file, on a thread of its own.
    /// - Parameters:
    ///   - url: beside it may lie a companion (`edgekit convert --companion`), which texts move to once it is loaded
    ///   - threads: nil lets the engine choose
    ///   - isa: nil lets the engine choose; else one of `Model.isas`
    ///   - verifyHashes: read the whole file and check its SHA-256 sums before use
    ///   - inMemory: read the file into memory instead of mapping it; what is mapped must stay as it is
    ///   - companion: false leaves what lies beside the file alone
    public convenience init(
        _ url: URL, threads: Int? = nil, isa: String? = nil, verifyHashes: Bool = false, inMemory: Bool = false,
        companion: Bool = true
    ) async throws {
        let native = try await withCheckedThrowingContinuation { (done: CheckedContinuation<Opened, any Error>) in
            DispatchQueue.global(qos: .userInitiated).async {
                done.resume(
                    with: Result {
                        try Opened(
                            url, threads: threads ?? 0, isa: isa, verifyHashes: verifyHashes, inMemory: inMemory,
                            companion: companion)
                    })
            }
        }
        try self.init(native, url)
    }

    private init(_ opened: Opened, _ url: URL) throws(EdgeKitError) {
        var info = edgekit_model_info()
        info.struct_size = MemoryLayout<edgekit_model_info>.size
        (native, companion) = opened.take()
        self.url = url
        var error = edgekit_error()
        let status = edgekit_model_get_info(native, &info, &error)
        vocabSize = Int(info.vocab_size)
        nLayers = Int(info.n_layers)
        dModel = Int(info.d_model)
        context = Int(info.context)
        threads = Int(info.n_threads)
        fileBytes = info.file_bytes
        weightBytes = info.weight_bytes
        nParameters = info.n_parameters
        isa = String(info.isa)
        modelType = String(info.model_type)
        scheme = String(info.scheme)
        hasTokenizer = info.has_tokenizer != 0
        hasChatTemplate = info.has_chat_template != 0
        metadata = String(info.metadata)
        if status != EDGEKIT_OK { throw EdgeKitError(error, status: status) }
    }

    deinit { edgekit_model_free(native) }

    /// What the companion beside the file does; nil when it has none that this system runs. The text says more: why it
    /// rests or failed, what of it the Neural Engine computes.
    public var companionState: (state: CompanionState, text: String)? {
        guard let companion else { return nil }
        var error = edgekit_error()
        let state = CompanionState(rawValue: UInt32(companion.state(companion.context, &error).rawValue)) ?? .failed
        return (state, EdgeKitError(error, status: EDGEKIT_INTERNAL).message)
    }

    /// nil when the package has none; prompts are then `Prompt.ids`.
    public var tokenizer: Tokenizer? { Tokenizer(self) }

    /// The text that the package's chat template makes of a conversation; `templateVariables` go to the template as
    /// they are.
    public func renderChat(
        _ messages: [Message], tools: [JSON]? = nil, templateVariables: [String: JSON] = [:]
    ) throws(EdgeKitError) -> String {
        let context = try Message.context(messages, tools, templateVariables)
        let bytes = try fill(CChar(0)) { text, capacity, size, error in
            context.withBytes { edgekit_model_render_chat(native, $0, $1, text, capacity, size, error) }
        }
        return String(bytes: bytes)
    }

    /// The same as token ids. Only the template's own text becomes special tokens, what the messages say never does.
    public func encodeChat(
        _ messages: [Message], tools: [JSON]? = nil, templateVariables: [String: JSON] = [:]
    ) throws(EdgeKitError) -> [Int32] {
        let context = try Message.context(messages, tools, templateVariables)
        return try fill(Int32(0)) { ids, capacity, count, error in
            context.withBytes { edgekit_model_encode_chat(native, $0, $1, ids, capacity, count, error) }
        }
    }

    /// What a session with these options would allocate.
    public func plan(_ options: SessionOptions = SessionOptions()) throws(EdgeKitError) -> MemoryPlan {
        var (plan, native) = (MemoryPlan.empty, try options.native())
        try check { edgekit_plan(self.native, &native, &plan, $0) }
        return MemoryPlan(plan)
    }

    /// The same from the file's header alone, before anything is loaded. Throws `EdgeKitError.overBudget` when
    /// `options.memoryBudget` is too small.
    public static func canLoad(
        _ url: URL, _ options: SessionOptions = SessionOptions()
    ) throws(EdgeKitError) -> MemoryPlan {
        var (plan, native) = (MemoryPlan.empty, try options.native())
        try check { error in url.path.withCString { edgekit_can_load($0, &native, &plan, error) } }
        return MemoryPlan(plan)
    }

    /// Instruction sets this build has and this processor runs, best first.
    public static var isas: [String] {
        String(cString: edgekit_isas()).split(separator: ",").map(String.init)
    }

    public static var version: String { String(cString: edgekit_version()) }
}

public enum CompanionState: UInt32, Sendable { case loading, ready, resting, failed }

/// An open model on its way from the thread that opened it.
private final class Opened: @unchecked Sendable {
    private var native: OpaquePointer?
    private let companion: edgekit_companion?

    init(_ url: URL, threads: Int, isa: String?, verifyHashes: Bool, inMemory: Bool, companion: Bool) throws {
        var options = edgekit_model_options()
        edgekit_model_options_init(&options)
        guard let count = UInt32(exactly: threads) else {
            throw EdgeKitError.invalidArgument("threads is \(threads); give 1 to 64, or nil")
        }
        options.n_threads = count
        options.verify_hashes = verifyHashes ? 1 : 0
        options.in_memory = inMemory ? 1 : 0
        let table = companion ? try Companion(beside: url)?.table() : nil
        self.companion = table
        let name = isa.map(\.utf8CString)
        try check { error in
            withOptional(table) { table in
                options.companion = table
                return url.path.withCString { path in
                    guard let name else { return edgekit_model_open(path, &options, &native, error) }
                    return name.withUnsafeBufferPointer {
                        options.isa = $0.baseAddress
                        return edgekit_model_open(path, &options, &native, error)
                    }
                }
            }
        }
    }

    func take() -> (OpaquePointer, edgekit_companion?) {
        defer { native = nil }
        return (native!, companion)
    }

    deinit { edgekit_model_free(native) }
}

private func withOptional<Value, Result>(_ value: Value?, _ body: (UnsafePointer<Value>?) -> Result) -> Result {
    guard let value else { return body(nil) }
    return withUnsafePointer(to: value) { body($0) }
}
