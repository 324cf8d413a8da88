import EdgeKit
import Foundation
import Observation

/// What the screen shows: a model on its way or open, what was said, and the answer under way.
@MainActor @Observable
final class Conversation {
    enum Phase: Equatable {
        case noModel
        /// nil while the size is unknown.
        case downloading(Double?)
        case opening
        case ready
        case answering
        /// Rests until the app is back on the screen.
        case resting
    }

    struct Line: Identifiable, Equatable {
        let id = UUID()
        let role: Message.Role
        var text: String
    }

    private(set) var phase = Phase.noModel
    private(set) var lines: [Line] = []
    private(set) var speed: Double?
    /// What computes: "cpu", "coreml", "coreai".
    private(set) var unit = "cpu"
    /// Says what went wrong, until the next try.
    private(set) var problem: String?

    private var chat: ChatSession?
    private var work: Task<Void, Never>?
    private let downloader = Downloader()

    // MARK: The model

    func openBundledModel() async {
        // A folder of `edgekit convert --companion`, or a file alone.
        let folder = Bundle.main.url(forResource: "Model", withExtension: "bundle")?.appendingPathComponent(
            "model.edge")
        guard chat == nil, let url = folder ?? Bundle.main.url(forResource: "model", withExtension: "edge") else {
            return
        }
        await open(url)
    }

    /// A file that the user chose; its access lasts as long as the app runs, since the model is mapped from it.
    func open(_ url: URL) async {
        #if canImport(Darwin)
        _ = url.startAccessingSecurityScopedResource()
        #endif
        phase = .opening
        do {
            let model = try await Model(url)
            chat = try ChatSession(model, options: SessionOptions(kv: .int8))
            (lines, speed, problem, phase) = ([], nil, nil, .ready)
        } catch {
            fail(error)
        }
    }

    func download(from address: String) {
        guard let url = URL(string: address) else {
            problem = "\(address) is no address"
            return
        }
        (phase, problem) = (.downloading(nil), nil)
        work = Task {
            do {
                let file = try await downloader.fetch(url) { progress in
                    Task { @MainActor in self.downloaded(progress) }
                }
                await open(file)
            } catch {
                fail(error)
            }
        }
    }

    private func downloaded(_ progress: DownloadProgress) {
        if case .downloading = phase { phase = .downloading(progress.fraction) }
    }

    // MARK: Talking

    func send(_ text: String) {
        guard let chat, phase == .ready else { return }
        lines += [Line(role: .user, text: text), Line(role: .assistant, text: "")]
        (phase, problem) = (.answering, nil)
        work = Task {
            do {
                for try await event in chat.say(text) { show(event) }
            } catch {
                problem = "\(error)"
            }
            phase = .ready
        }
    }

    private func show(_ event: Event) {
        switch event {
        case .text(let piece, _):
            phase = .answering
            lines[lines.count - 1].text += piece
        case .suspended: phase = .resting
        case .moved(let name, _): unit = name
        case .evicted: break
        case .done(let done): (speed, unit) = (done.stats.decodeTokS, done.computedBy)
        }
    }

    func stop() { work?.cancel() }

    func startOver() async {
        stop()
        try? await chat?.reset()
        (lines, speed, problem) = ([], nil, nil)
    }

    // MARK: The system

    func followSystem() async {
        for await condition in SystemCondition.changes() {
            try? await chat?.session.react(to: condition)
        }
    }

    private func fail(_ error: any Error) {
        problem = error is CancellationError ? nil : "\(error)"
        phase = chat == nil ? .noModel : .ready
    }
}
