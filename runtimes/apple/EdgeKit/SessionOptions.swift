import CEdgeKit

/// How a session keeps what it has read. Everything is allocated when the session is made.
public struct SessionOptions: Sendable, Equatable {
    public enum KvType: UInt32, Sendable { case auto, f32, f16, int8, int4 }
    public enum OnFull: UInt32, Sendable {
        /// The oldest tokens after the sinks leave; `Event.evicted` tells.
        case evict
        /// Generation ends with `Finish.contextFull`.
        case stop
        /// Generation throws `EdgeKitError.contextFull`.
        case error
    }

    /// Recent positions kept; nil: as many as the model was trained for, at most 4096, or what fits the budget.
    public var window: Int?
    /// First positions kept for ever; nil: 4, of a conversation its system prompt too.
    public var sinks: Int?
    public var kv: KvType
    public var onFull: OnFull
    /// Bytes, for everything the session allocates; the engine chooses `window` and `kv` to fit.
    public var memoryBudget: UInt64?
    /// Tokens of a prompt that are computed at once; nil: chosen by the engine.
    public var chunk: Int?

    public init(
        window: Int? = nil, sinks: Int? = nil, kv: KvType = .auto, onFull: OnFull = .evict,
        memoryBudget: UInt64? = nil, chunk: Int? = nil
    ) {
        self.window = window
        self.sinks = sinks
        self.kv = kv
        self.onFull = onFull
        self.memoryBudget = memoryBudget
        self.chunk = chunk
    }

    func native() throws(EdgeKitError) -> edgekit_session_options {
        var native = edgekit_session_options()
        edgekit_session_options_init(&native)
        if let window { native.window = try exact("window", window) }
        if let sinks { native.sinks = try exact("sinks", sinks) }
        native.kv_type = edgekit_kv_type(rawValue: .init(kv.rawValue))
        native.on_full = edgekit_on_full(rawValue: .init(onFull.rawValue))
        native.memory_budget_bytes = memoryBudget ?? 0
        if let chunk { native.chunk = try exact("chunk", chunk) }
        return native
    }
}

/// What a model and a session of it allocate, to the byte, and what is mapped.
public struct MemoryPlan: Sendable, Equatable {
    /// Mapped from the file: shared, clean, reclaimable by the system.
    public let weightBytes: UInt64
    /// In the file: the tokenizer and the chat template.
    public let tokenizerBytes: UInt64
    /// Allocated: keys and values.
    public let cacheBytes: UInt64
    /// Allocated: everything else that is a session's own.
    public let activationBytes: UInt64
    /// Allocated once per model, for all its sessions.
    public let modelBytes: UInt64
    /// Allocated in all: cache, activations, model.
    public let totalBytes: UInt64
    public let window: Int
    public let sinks: Int
    public let chunk: Int
    public let kv: SessionOptions.KvType

    static var empty: edgekit_memory_plan {
        var plan = edgekit_memory_plan()
        plan.struct_size = MemoryLayout<edgekit_memory_plan>.size
        return plan
    }

    init(_ native: edgekit_memory_plan) {
        weightBytes = native.weight_bytes
        tokenizerBytes = native.tokenizer_bytes
        cacheBytes = native.cache_bytes
        activationBytes = native.activation_bytes
        modelBytes = native.model_bytes
        totalBytes = native.total_bytes
        window = Int(native.window)
        sinks = Int(native.sinks)
        chunk = Int(native.chunk)
        kv = SessionOptions.KvType(rawValue: UInt32(native.kv_type.rawValue)) ?? .auto
    }
}
