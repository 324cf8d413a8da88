/// A conversation: keeps the messages, and computes only what is new in each turn.
///
///     let chat = try ChatSession(model, system: "Answer in one sentence.")
///     let answer = try await chat.say("Why is the sky blue?").text
///
/// One turn at a time: a new one ends the one before, which keeps what it had said.
public actor ChatSession {
    public nonisolated let session: Session
    /// The conversation, its system message included. A reply joins it when it has ended.
    public private(set) var messages: [Message]
    /// The tools that the template tells the model of.
    public private(set) var tools: [JSON]?
    /// Switches the reasoning of models that have it on or off; nil leaves it to the template.
    public private(set) var thinking: Bool?

    public nonisolated var unownedExecutor: UnownedSerialExecutor { session.unownedExecutor }
    private var turn: Turn?

    public init(
        _ model: Model, system: String? = nil, messages: [Message] = [], tools: [JSON]? = nil, thinking: Bool? = nil,
        options: SessionOptions = SessionOptions()
    ) throws {
        session = try Session(model, options)
        self.messages = system.map { messages.withSystem($0) } ?? messages
        self.tools = tools
        self.thinking = thinking
    }

    /// The system message.
    public var system: String? { messages.system }

    // What is set counts from the next turn on.
    public func setSystem(_ system: String?) { messages = messages.withSystem(system) }
    public func setMessages(_ messages: [Message]) { self.messages = messages }
    public func setTools(_ tools: [JSON]?) { self.tools = tools }
    public func setThinking(_ thinking: Bool?) { self.thinking = thinking }

    /// Says something, as the user; iterate for the reply. Both join the messages, unless not a word was said.
    public nonisolated func say(_ text: String, _ options: GenerateOptions = GenerateOptions())
        -> AsyncThrowingStream<Event, any Error>
    {
        reply(options) { $0 + [Message(.user, text)] }
    }

    /// As `say`, to the messages as they stand: after a tool's results were added, for example. Throws
    /// `EdgeKitError.invalidArgument` when they end with no question.
    public nonisolated func reply(_ options: GenerateOptions = GenerateOptions())
        -> AsyncThrowingStream<Event, any Error>
    {
        reply(options) { messages in
            guard let last = messages.last, ![.system, .assistant].contains(last.role) else {
                throw EdgeKitError.invalidArgument("the last message is nobody's question; say something first")
            }
            return messages
        }
    }

    /// Another reply in the place of the last; that one stays until the new one ends. Throws
    /// `EdgeKitError.invalidArgument` when there is none.
    public nonisolated func regenerate(_ options: GenerateOptions = GenerateOptions())
        -> AsyncThrowingStream<Event, any Error>
    {
        reply(options) { messages in
            let asked = messages.prefix((messages.lastIndex { $0.role != .assistant } ?? -1) + 1)
            if asked.count == messages.count {
                throw EdgeKitError.invalidArgument("there is no reply to generate again; say something first")
            }
            return Array(asked)
        }
    }

    /// Takes the last user's message and all that followed back, and returns it. Throws
    /// `EdgeKitError.invalidArgument` when there is none.
    @discardableResult public func undo() throws(EdgeKitError) -> Message {
        end(turn)
        guard let last = messages.lastIndex(where: { $0.role == .user }) else {
            throw .invalidArgument("there is no turn to take back")
        }
        defer { messages.removeSubrange(last...) }
        return messages[last]
    }

    /// Forgets the conversation, all but its system message.
    public func reset() async throws {
        turn = nil
        messages = [Message]().withSystem(system)
        try await session.reset()
    }

    /// From any thread: the reply ends soon, as `Finish.cancelled`.
    public nonisolated func cancel() { session.cancel() }

    private nonisolated func reply(
        _ options: GenerateOptions, to question: @escaping @Sendable ([Message]) throws -> [Message]
    ) -> AsyncThrowingStream<Event, any Error> {
        let turn = Turn(question, options)
        return AsyncThrowingStream { try await self.next(turn) }
    }

    private func next(_ turn: Turn) async throws -> Event? {
        if turn.generation == nil { try begin(turn) }
        guard self.turn === turn, let generation = turn.generation else { return nil }
        do {
            let event = try await session.next(generation)
            if let event { turn.reply += event.text }
            if case .done(let done) = event { end(turn, whole: done.finish != .cancelled) }
            if event == nil { end(turn) }
            return event
        } catch {
            end(turn)
            throw error
        }
    }

    private func begin(_ turn: Turn) throws {
        end(self.turn)
        turn.asked = try turn.question(messages)
        var options = turn.options
        options.tools = options.tools ?? tools
        if let thinking {
            for name in ["enable_thinking", "thinking"] {  // what templates call it
                options.templateVariables[name] = .bool(thinking)
            }
        }
        turn.generation = Generation(.messages(turn.asked), options)
        self.turn = turn
    }

    /// The reply joins the messages, unless another turn has seen to that.
    private func end(_ ended: Turn?, whole: Bool = false) {
        guard let ended, turn === ended else { return }
        turn = nil
        if whole || !ended.reply.isEmpty { messages = ended.asked + [Message(.assistant, ended.reply)] }
    }
}

extension [Message] {
    fileprivate var system: String? { first?.role == .system ? first?.content : nil }

    fileprivate func withSystem(_ text: String?) -> [Message] {
        (text.map { [Message(.system, $0)] } ?? []) + dropFirst(system == nil ? 0 : 1)
    }
}

/// What a reply answers, and the reply so far. Touched by its chat alone.
private final class Turn: @unchecked Sendable {
    let question: @Sendable ([Message]) throws -> [Message]
    let options: GenerateOptions
    var asked: [Message] = []
    var generation: Generation?
    var reply = ""

    init(_ question: @escaping @Sendable ([Message]) throws -> [Message], _ options: GenerateOptions) {
        self.question = question
        self.options = options
    }
}
