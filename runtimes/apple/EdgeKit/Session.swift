import CEdgeKit
import Dispatch
import Foundation

/// One conversation's memory and sampler. Its work runs on a thread of its own, one call after the other.
///
///     let session = try Session(model)
///     for try await event in session.generate("Once upon a time") { print(event.text, terminator: "") }
///
/// Generation is pulled: nothing is computed that nobody waits for. Cancelling the task ends it; a stream that is
/// dropped half read costs nothing; a new generation ends the one before.
public actor Session {
    public nonisolated let model: Model
    public nonisolated let options: SessionOptions
    public private(set) var state: SessionState = .active

    private nonisolated let handle: SessionHandle
    private nonisolated let worker = Worker()
    public nonisolated var unownedExecutor: UnownedSerialExecutor { worker.asUnownedSerialExecutor() }

    private var running: Generation?
    private var waiting: [CheckedContinuation<Void, Never>] = []

    /// Allocates everything the session will ever need.
    public init(_ model: Model, _ options: SessionOptions = SessionOptions()) throws {
        self.model = model
        self.options = options
        handle = SessionHandle(try Session.create(model, options))
    }

    private init(_ model: Model, _ options: SessionOptions, _ handle: SessionHandle) {
        (self.model, self.options, self.handle) = (model, options, handle)
    }

    // MARK: Generation

    /// Begins when the stream is first asked. `prompt` is the whole text so far: what the session already holds
    /// of it is not computed again. Another call on the session ends the stream, without an `Event.done`.
    public nonisolated func generate(_ prompt: Prompt, _ options: GenerateOptions = GenerateOptions())
        -> AsyncThrowingStream<Event, any Error>
    {
        let generation = Generation(prompt, options)
        return AsyncThrowingStream { try await self.next(generation) }
    }

    /// From any thread: what runs ends soon, as `Finish.cancelled`. Nothing runs: nothing happens.
    public nonisolated func cancel() { handle.cancel() }

    func next(_ generation: Generation) async throws -> Event? {
        if !generation.begun {
            generation.begun = true
            running = nil
            try generation.options.begin(try native(), generation.prompt, in: model)
            running = generation
        }
        guard running === generation else {
            if generation.hibernated { throw EdgeKitError.hibernated }
            return nil
        }
        if case .suspended(let reason) = state {
            if generation.suspension != reason {
                generation.suspension = reason
                return .suspended(reason)
            }
            await untilResumed()
            return try await next(generation)
        }
        generation.suspension = nil
        do {
            let event = try await withTaskCancellationHandler {
                try step()
            } onCancel: {
                handle.cancel()
            }
            if case .done = event { running = nil }
            return event
        } catch {
            running = nil
            throw error
        }
    }

    /// Computes until there is an event.
    private func step() throws -> Event {
        let native = try native()
        while true {
            var event = edgekit_event()
            event.struct_size = MemoryLayout<edgekit_event>.size
            try check { edgekit_session_next(native, &event, $0) }
            if let event = Event(event) { return event }
        }
    }

    // MARK: What the session holds

    /// Appends tokens to the cache: logits of the last [vocabSize], or with `allLogits` of each [ids.count * vocabSize].
    public func forward(_ ids: [Int32], allLogits: Bool = false) throws -> [Float] {
        let native = try idle()
        var logits = [Float](repeating: 0, count: model.vocabSize * (allLogits ? ids.count : 1))
        try check { edgekit_session_forward(native, ids, ids.count, allLogits ? 1 : 0, &logits, $0) }
        return logits
    }

    /// Tokens processed since the start, evicted ones included.
    public var position: UInt64 { get throws { edgekit_session_position(try native()) } }

    /// What the session allocated.
    public var plan: MemoryPlan {
        get throws {
            var plan = MemoryPlan.empty
            let native = try native()
            try check { edgekit_session_get_plan(native, &plan, $0) }
            return MemoryPlan(plan)
        }
    }

    /// Forgets everything; allocates nothing.
    public func reset() throws {
        let native = try idle()
        try check { edgekit_session_reset(native, $0) }
    }

    /// Takes the last `count` tokens back.
    public func rewind(_ count: Int) throws {
        let tokens: UInt64 = try exact("count", count)
        let native = try idle()
        try check { edgekit_session_rewind(native, tokens, $0) }
    }

    /// A second session with the same contents, to try another continuation.
    public func fork() throws -> Session {
        var copy: OpaquePointer?
        let native = try native()
        try check { edgekit_session_fork(native, &copy, $0) }
        return Session(model, options, SessionHandle(copy!))
    }

    /// Writes the state to a file: portable between devices, bound to the model's weights, whole or not at all.
    public func save(to url: URL) throws {
        let native = try native()
        try check { error in url.path.withCString { edgekit_session_save(native, $0, error) } }
    }

    /// Takes a saved state; a file that is corrupt or another model's leaves the session as it was.
    public func restore(from url: URL) throws {
        let native = try idle()
        try check { error in url.path.withCString { edgekit_session_restore(native, $0, error) } }
    }

    // MARK: Suspension and hibernation

    /// Generation rests before its next token, and streams say so with `Event.suspended`, until `resume()`.
    /// A suspended session may hold on to its memory; `hibernate()` gives it back.
    public func suspend(_ reason: SuspensionReason) {
        if case .active = state { state = .suspended(reason) }
    }

    public func resume() {
        if case .suspended = state { state = .active }
        wake()
    }

    /// Writes the state to a temporary file and frees the memory. The next call brings everything back; a
    /// generation that was running throws `EdgeKitError.hibernated`.
    public func hibernate() throws {
        if case .hibernated = state { return }
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).session")
        try save(to: url)
        handle.replace(with: nil, file: url)
        running?.hibernated = true
        running = nil
        state = .hibernated
        wake()
    }

    /// What an app does when the system asks: rests in the background, and gives its memory back under pressure:
    /// at once when it is critical, and at a warning unless it is generating.
    public func react(to condition: SystemCondition) throws {
        switch condition {
        case .background: suspend(.background)
        case .foreground: resume()
        case .memoryPressure(.warning): if running == nil { try hibernate() }
        case .memoryPressure(.critical): try hibernate()
        }
    }

    private func untilResumed() async {
        await withTaskCancellationHandler {
            if case .suspended = state, !Task.isCancelled {
                await withCheckedContinuation { waiting.append($0) }
            }
        } onCancel: {
            Task { await self.wake() }
        }
        if Task.isCancelled, case .suspended = state { running = nil }
    }

    private func wake() {
        let all = waiting
        waiting = []
        for one in all { one.resume() }
    }

    // MARK: The native session

    private static func create(_ model: Model, _ options: SessionOptions) throws(EdgeKitError) -> OpaquePointer {
        var native: OpaquePointer?
        var options = try options.native()
        try check { edgekit_session_create(model.native, &options, &native, $0) }
        return native!
    }

    /// The native session, out of hibernation if it was there.
    private func native() throws -> OpaquePointer {
        if let native = handle.native { return native }
        let native = try Session.create(model, options)
        do {
            if let file = handle.file {
                try check { error in file.path.withCString { edgekit_session_restore(native, $0, error) } }
            }
        } catch {
            edgekit_session_free(native)
            throw error
        }
        handle.replace(with: native, file: nil)
        state = .active
        return native
    }

    /// The same with no generation under way.
    private func idle() throws -> OpaquePointer {
        running = nil
        return try native()
    }
}

/// Where a session is between working and not.
public enum SessionState: Sendable, Equatable {
    case active
    /// Rests until `Session.resume()`.
    case suspended(SuspensionReason)
    /// On disk: the next call brings it back.
    case hibernated
}

public enum SuspensionReason: Sendable, Equatable { case background, requested }

/// One call of `generate`. Touched by its session alone.
final class Generation: @unchecked Sendable {
    let prompt: Prompt
    let options: GenerateOptions
    var begun = false
    var hibernated = false
    var suspension: SuspensionReason?  // already told

    init(_ prompt: Prompt, _ options: GenerateOptions) {
        self.prompt = prompt
        self.options = options
    }
}

/// Owns the native session, or the file it hibernates in. The session changes it; `cancel` may come from anywhere.
private final class SessionHandle: @unchecked Sendable {
    private let lock = NSLock()
    private(set) var native: OpaquePointer?
    private(set) var file: URL?

    init(_ native: OpaquePointer) { self.native = native }

    func cancel() {
        lock.lock()
        edgekit_session_cancel(native)
        lock.unlock()
    }

    func replace(with new: OpaquePointer?, file newFile: URL?) {
        lock.lock()
        release()
        (native, file) = (new, newFile)
        lock.unlock()
    }

    private func release() {
        edgekit_session_free(native)
        if let file { try? FileManager.default.removeItem(at: file) }
    }

    deinit { release() }
}

/// A thread's worth of work that is not the app's: generation would starve Swift's few shared threads.
private final class Worker: SerialExecutor {
    private let queue = DispatchQueue(label: "edgekit.session", qos: .userInitiated)

    func enqueue(_ job: UnownedJob) {
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }

    func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
}
