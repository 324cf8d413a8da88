import CEdgeKit

/// What a generation gives, one after the other. The last is `done`.
public enum Event: Sendable, Equatable {
    /// Whole characters, possibly none, and the tokens sampled since the last event.
    case text(String, tokens: [Int32])
    /// These positions have left the cache and can no longer be attended to.
    case evicted(Range<UInt64>)
    /// Generation rests until `Session.resume()`.
    case suspended(SuspensionReason)
    /// From here on `name` computes: a companion ("coreml", "coreai"), or "cpu", because of what `reason` says.
    case moved(to: String, reason: String)
    case done(Done)

    /// The event's text; empty for events that carry none.
    public var text: String {
        if case .text(let text, _) = self { return text }
        return ""
    }

    /// nil for kinds of event that were not asked for.
    init?(_ native: edgekit_event) {
        switch native.kind {
        case EDGEKIT_EVENT_TEXT:
            let tokens = UnsafeBufferPointer(start: native.tokens, count: native.token_count)
            self = .text(String(native.text), tokens: Array(tokens))
        case EDGEKIT_EVENT_EVICTED:
            self = .evicted(native.evicted_first..<native.evicted_first + native.evicted_count)
        case EDGEKIT_EVENT_MOVED:
            self = .moved(to: String(native.computed_by), reason: String(native.relayed))
        case EDGEKIT_EVENT_DONE:
            self = .done(Done(native))
        default: return nil
        }
    }
}

/// Why a generation ended, and what it did.
public struct Done: Sendable, Equatable {
    public let finish: Finish
    public let stats: Statistics
    /// Draws the same text again.
    public let seed: UInt64
    /// With `Finish.stop`: tokens of the stop that left the cache again, so that it holds what the text says.
    public let takenBack: Int
    /// "cpu", or the companion that computed at the end: "coreml", "coreai".
    public let computedBy: String

    init(_ native: edgekit_event) {
        finish = Finish(rawValue: UInt32(native.finish.rawValue)) ?? .cancelled
        stats = Statistics(native)
        seed = native.seed
        takenBack = Int(native.taken_back)
        computedBy = String(native.computed_by)
    }
}

public enum Finish: UInt32, Sendable { case eos, length, stop, cancelled, contextFull }

public struct Statistics: Sendable, Equatable {
    /// Tokens of this prompt,
    public let promptTokens: Int
    /// and of those, found in the cache and not computed again.
    public let cachedTokens: Int
    public let generatedTokens: Int
    /// Tokens that prompt lookup proposed,
    public let draftedTokens: Int
    /// and of those accepted.
    public let acceptedTokens: Int
    public let prefill: Duration
    /// From the start of the generation.
    public let firstToken: Duration
    public let decode: Duration

    /// Tokens of the prompt computed per second, cached ones not counted; 0 when there were none.
    public var prefillTokS: Double { rate(promptTokens - cachedTokens, prefill) }

    /// Tokens per second after the first, which prefill pays for; 0 when there was one at most.
    public var decodeTokS: Double { rate(generatedTokens - 1, decode) }

    private func rate(_ tokens: Int, _ time: Duration) -> Double {
        let seconds = time / .seconds(1)
        return tokens > 0 && seconds > 0 ? Double(tokens) / seconds : 0
    }

    init(_ native: edgekit_event) {
        promptTokens = Int(native.prompt_tokens)
        cachedTokens = Int(native.cached_tokens)
        generatedTokens = Int(native.generated_tokens)
        draftedTokens = Int(native.drafted_tokens)
        acceptedTokens = Int(native.accepted_tokens)
        prefill = .milliseconds(native.prefill_ms)
        firstToken = .milliseconds(native.first_token_ms)
        decode = .milliseconds(native.decode_ms)
    }
}

extension AsyncThrowingStream where Element == Event, Failure == any Error {
    /// All the text, when it is there: `try await session.generate("Once").text`.
    public var text: String {
        get async throws {
            var text = ""
            for try await event in self { text += event.text }
            return text
        }
    }
}
