import CEdgeKit

/// What a generation starts from.
public enum Prompt: Sendable, Equatable, ExpressibleByStringLiteral {
    case text(String)
    case ids([Int32])
    /// A conversation, given whole, for the package's chat template. What the messages say never becomes a special
    /// token.
    case messages([Message])

    public init(stringLiteral value: String) { self = .text(value) }
}

/// How tokens are chosen and when to end. nil leaves a choice to the engine: sampling to what the package's makers
/// advise. `edgekit.h` documents each value.
public struct GenerateOptions: Sendable, Equatable {
    /// As `maxTokens`: until the model ends its text, or the generation is cancelled.
    public static let endless = Int(UInt32.max)

    /// nil: as many as the session holds.
    public var maxTokens: Int?
    public var ignoreEos = false
    /// nil: a fresh one each time, which `Event.done` tells.
    public var seed: UInt64?
    /// 0 is greedy.
    public var temperature: Float?
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
    /// Token ids that end the text.
    public var stopIds: [Int32] = []
    /// Draft length of prompt lookup: nil chosen by the engine, 0 off.
    public var speculation: Int?
    /// The prompt follows what the session holds, instead of being the whole text so far.
    public var append = false
    /// Add what the tokenizer adds to a text (BOS, …).
    public var addSpecialTokens = true
    /// Recognise special tokens that are written in a text.
    public var parseSpecial = true
    /// For a conversation: the tools that its template tells the model of.
    public var tools: [JSON]?
    /// For a conversation: what else its template reads, such as `enable_thinking`.
    public var templateVariables: [String: JSON] = [:]

    public init(
        maxTokens: Int? = nil, ignoreEos: Bool = false, seed: UInt64? = nil, temperature: Float? = nil,
        topK: Int? = nil, topP: Float? = nil, minP: Float? = nil, stop: [String] = [], tools: [JSON]? = nil,
        templateVariables: [String: JSON] = [:]
    ) {
        self.maxTokens = maxTokens
        self.ignoreEos = ignoreEos
        self.seed = seed
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.stop = stop
        self.tools = tools
        self.templateVariables = templateVariables
    }

    /// Begins the generation; what the options point to lives as long as the call.
    func begin(_ session: OpaquePointer, _ prompt: Prompt, in model: Model) throws(EdgeKitError) {
        var native = edgekit_generate_options()
        edgekit_generate_options_init(&native, model.native)
        if let maxTokens { native.max_tokens = try exact("maxTokens", maxTokens) }
        if let seed { native.seed = seed }
        if let temperature { native.temperature = temperature }
        if let topK { native.top_k = try exact("topK", topK) }
        if let topP { native.top_p = topP }
        if let minP { native.min_p = minP }
        if let typicalP { native.typical_p = typicalP }
        if let repetitionPenalty { native.repetition_penalty = repetitionPenalty }
        if let presencePenalty { native.presence_penalty = presencePenalty }
        if let frequencyPenalty { native.frequency_penalty = frequencyPenalty }
        if let penaltyWindow { native.penalty_window = try exact("penaltyWindow", penaltyWindow) }
        if let speculation { native.speculation = try exact("speculation", speculation) }
        native.ignore_eos = ignoreEos ? 1 : 0
        native.prompt_mode = append ? EDGEKIT_PROMPT_APPEND : EDGEKIT_PROMPT_FROM_START
        native.prompt_flags = promptFlags(addSpecial: addSpecialTokens, parseSpecial: parseSpecial)

        let arena = Arena()
        switch prompt {
        case .text(let text): (native.prompt, native.prompt_size) = arena.text(text)
        case .ids(let ids): (native.prompt_ids, native.prompt_ids_count) = arena.array(ids)
        case .messages(let messages):
            let context = try Message.context(messages, tools, templateVariables)
            (native.messages, native.messages_size) = arena.text(context)
        }
        let stops = stop.map { text in
            let (data, size) = arena.text(text)
            return edgekit_span(data: data, size: size)
        }
        (native.stops, native.stops_count) = arena.array(stops)
        (native.stop_ids, native.stop_ids_count) = arena.array(stopIds)
        (native.bias_ids, native.bias_count) = arena.array(Array(logitBias.keys))
        (native.bias_values, _) = arena.array(Array(logitBias.values))
        try withExtendedLifetime(arena) { () throws(EdgeKitError) in
            try check { edgekit_session_generate(session, &native, $0) }
        }
    }
}

/// Copies for C to point to, freed together.
private final class Arena {
    private var held: [UnsafeMutableRawPointer] = []

    /// nil for no elements.
    func array<Element>(_ elements: [Element]) -> (UnsafePointer<Element>?, Int) {
        guard !elements.isEmpty else { return (nil, 0) }
        let copy = UnsafeMutablePointer<Element>.allocate(capacity: elements.count)
        copy.initialize(from: elements, count: elements.count)
        held.append(copy)
        return (UnsafePointer(copy), elements.count)
    }

    /// UTF-8, never nil.
    func text(_ text: String) -> (UnsafePointer<CChar>?, Int) {
        (array(Array(text.utf8CString)).0, text.utf8.count)
    }

    deinit { for one in held { one.deallocate() } }
}
