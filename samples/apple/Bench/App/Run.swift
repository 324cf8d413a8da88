import EdgeKitBench
import Foundation
import Observation

#if canImport(UIKit)
import UIKit
#endif

/// What the screen shows: a plan on its way, played, sent.
@MainActor @Observable
final class Run {
    enum Phase: Equatable {
        case idle, fetching
        case measuring(done: Int, total: Int)
        case finished
    }

    private(set) var phase = Phase.idle
    /// The recording, to share.
    private(set) var file: URL?
    private(set) var problem: String?
    private var work: Task<Void, Never>?

    /// Nothing while a run is on its way.
    func start(_ address: String) {
        guard phase == .idle || phase == .finished else { return }
        (phase, file, problem) = (.fetching, nil, nil)
        work = Task {
            stayAwake(true)
            defer { stayAwake(false) }
            do {
                try await measure(BenchHost(address))
                phase = .finished
            } catch {
                problem = error is CancellationError ? nil : "\(error)"
                phase = .idle
            }
        }
    }

    func stop() { work?.cancel() }

    private func measure(_ host: BenchHost) async throws {
        let folder = FileManager.default.temporaryDirectory
        let model = folder.appendingPathComponent("model.edge")
        let plan = try await host.plan()
        try await host.model(to: model)
        do {
            let player = try Player(plan: plan, model: model)
            let recording = try await player.play { done, total in
                await self.show(done, total)
                await host.tell(done: done, total: total)
            }
            let made = folder.appendingPathComponent("edgekit-bench.json")
            try recording.write(to: made, options: .atomic)
            file = made  // to be shared even when the computer is gone
            try await host.send(recording)
        } catch {
            // In a task of its own: in one that was cancelled nothing is sent.
            await Task { await host.giveUp(error is CancellationError ? "it was stopped there" : "\(error)") }.value
            throw error
        }
    }

    /// A screen that locks ends the run.
    private func stayAwake(_ on: Bool) {
        #if canImport(UIKit)
        UIApplication.shared.isIdleTimerDisabled = on
        #endif
    }

    private func show(_ done: Int, _ total: Int) { phase = .measuring(done: done, total: total) }
}
