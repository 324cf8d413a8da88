import CEdgeKit

/// What a generation starts from.
public enum Prompt: Sendable, Equatable, ExpressibleByStringLiteral {
    case text(String)
    case ids([Int32])
    /// Rendered by the package's chat template.
    case chat([Message])

    public init(stringLiteral value: String) { self = .text(value) }
}

/// How tokens are chosen and when to end. `edgekit.h` documents each value.
public struct GenerationOptions: Sendable, Equatable {
    /// nil: until the model ends its text.
    public var maxTokens: Int?
    /// 0 is greedy.
    public var temperature: Float
    public var topK: Int?
    public var topP: Float?
    public var minP: Float?
    public var typicalP: Float?
    public var repetitionPenalty: Float?
    public var presencePenalty: Float?
    public var frequencyPenalty: Float?
    public var penaltyWindow: Int?
    /// Added to these ids' logits; -infinity forbids a token.
    public var logitBias: [Int32: Float] = [:]
    /// The text ends before the first of these.
    public var stop: [String] = []
    public var seed: UInt64 = 0
    public var ignoreEnd = false
    /// The prompt follows what the session holds, instead of being the whole text so far.
    public var append = false
    /// nil: yes, except after a chat template, which writes its own special tokens.
    public var addSpecial: Bool?
    /// Draft length of prompt lookup: nil chosen by the engine, 0 off.
    public var speculation: Int?

    public init(
        maxTokens: Int? = nil, temperature: Float = 0, topK: Int? = nil, topP: Float? = nil, minP: Float? = nil,
        seed: UInt64 = 0, stop: [String] = []
    ) {
        self.maxTokens = maxTokens
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.seed = seed
        self.stop = stop
    }

    /// Begins the generation; what the options point to lives as long as the call.
    func begin(_ session: OpaquePointer, _ prompt: Prompt, in model: Model) throws(EdgeKitError) {
        var native = edgekit_generate_options()
        edgekit_generate_options_init(&native, nil)
        native.max_tokens = UInt32(clamping: maxTokens ?? 0)
        native.temperature = temperature
        if let topK { native.top_k = UInt32(clamping: topK) }
        if let topP { native.top_p = topP }
        if let minP { native.min_p = minP }
        if let typicalP { native.typical_p = typicalP }
        if let repetitionPenalty { native.repetition_penalty = repetitionPenalty }
        if let presencePenalty { native.presence_penalty = presencePenalty }
        if let frequencyPenalty { native.frequency_penalty = frequencyPenalty }
        if let penaltyWindow { native.penalty_window = UInt32(clamping: penaltyWindow) }
        if let speculation { native.speculation = Int32(clamping: speculation) }
        native.seed = seed
        native.ignore_eos = ignoreEnd ? 1 : 0
        native.prompt_mode = append ? EDGEKIT_PROMPT_APPEND : EDGEKIT_PROMPT_FROM_START

        var text: ContiguousArray<CChar> = []
        var ids: [Int32] = []
        var special = true
        switch prompt {
        case .text(let value): text = value.utf8CString
        case .ids(let value): ids = value
        case .chat(let messages):
            text = try model.render(messages).utf8CString
            special = false
        }
        native.prompt_flags = promptFlags(addSpecial: addSpecial ?? special, parseSpecial: true)

        // Stop strings one after the other: spans into one array.
        let stopBytes = stop.flatMap { Array($0.utf8).map { CChar(bitPattern: $0) } }
        let (biasIDs, biasValues) = (Array(logitBias.keys), Array(logitBias.values))
        try check { error in
            text.withUnsafeBufferPointer { text in
                ids.withUnsafeBufferPointer { ids in
                    stopBytes.withUnsafeBufferPointer { bytes in
                        biasIDs.withUnsafeBufferPointer { biasIDs in
                            biasValues.withUnsafeBufferPointer { biasValues in
                                if !text.isEmpty {
                                    native.prompt = text.baseAddress
                                    native.prompt_size = text.count - 1
                                } else {
                                    native.prompt_ids = ids.baseAddress
                                    native.prompt_ids_count = ids.count
                                }
                                native.bias_ids = biasIDs.baseAddress
                                native.bias_values = biasValues.baseAddress
                                native.bias_count = biasIDs.count
                                var end = bytes.baseAddress
                                let spans = stop.map { stop in
                                    defer { end = end.map { $0 + stop.utf8.count } }
                                    return edgekit_span(data: end, size: stop.utf8.count)
                                }
                                return spans.withUnsafeBufferPointer { spans in
                                    native.stops = spans.baseAddress
                                    native.stops_count = spans.count
                                    return edgekit_session_generate(session, &native, error)
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
