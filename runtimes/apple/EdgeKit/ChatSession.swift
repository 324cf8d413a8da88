/// A conversation: keeps the messages, renders them by the package's chat template, and computes only what is new.
///
///     let chat = try ChatSession(model, instructions: "Answer in one sentence.")
///     let answer = try await chat.respond(to: "Why is the sky blue?").text
public actor ChatSession {
    public nonisolated let session: Session
    /// What was said, an answer under way included once it has ended.
    public private(set) var messages: [Message]

    public nonisolated var unownedExecutor: UnownedSerialExecutor { session.unownedExecutor }
    private var turn: Turn?

    /// - Parameter messages: a conversation to go on with; `instructions` come before it as a system message
    public init(
        _ model: Model, instructions: String? = nil, messages: [Message] = [],
        options: SessionOptions = SessionOptions()
    ) throws {
        guard model.hasChatTemplate else {
            throw EdgeKitError.unsupported("\(model.url.lastPathComponent) has no chat template; use Session.generate")
        }
        session = try Session(model, options)
        self.messages = (instructions.map { [Message(.system, $0)] } ?? []) + messages
    }

    /// The answer, event by event. One turn at a time: a new one ends the one before, which keeps what it had said.
    public nonisolated func respond(to prompt: String, _ options: GenerationOptions = GenerationOptions())
        -> AsyncThrowingStream<Event, any Error>
    {
        let turn = Turn(prompt, options)
        return AsyncThrowingStream { try await self.next(turn) }
    }

    public nonisolated func cancel() { session.cancel() }

    /// Forgets the conversation and starts another with these messages.
    public func reset(messages: [Message] = []) async throws {
        turn = nil
        self.messages = messages
        try await session.reset()
    }

    private func next(_ turn: Turn) async throws -> Event? {
        if turn.generation == nil {
            close()
            messages.append(Message(.user, turn.prompt))
            turn.generation = Generation(.chat(messages), turn.options)
            self.turn = turn
        }
        guard self.turn === turn, let generation = turn.generation else { return nil }
        do {
            let event = try await session.next(generation)
            if let event { turn.text += event.text }
            if case .done = event, self.turn === turn { close() }
            return event
        } catch {
            if self.turn === turn { close(failed: true) }
            throw error
        }
    }

    /// Ends the turn under way: its answer joins the messages; a turn that failed before its first word never was.
    private func close(failed: Bool = false) {
        guard let turn else { return }
        self.turn = nil
        if failed && turn.text.isEmpty {
            messages.removeLast()
        } else {
            messages.append(Message(.assistant, turn.text))
        }
    }
}

/// A question and its answer so far. Touched by its chat alone.
private final class Turn: @unchecked Sendable {
    let prompt: String
    let options: GenerationOptions
    var generation: Generation?
    var text = ""

    init(_ prompt: String, _ options: GenerationOptions) {
        self.prompt = prompt
        self.options = options
    }
}
