import Foundation

/// A plan of `edgekit bench`, played on this device: commands in passes, each for a program of its own. What only the system knows
/// (`facts`, `state`, `cool`, and heat and battery after a `stretch`) is answered here, all else by the program.
public struct Player: Sendable {
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    public let passes: [[String]]
    private let plan: String
    private let model: URL
    private let device: any Device
    private let makeProgram: @Sendable () -> any Program

    /// `plan` is JSON, from the computer that wants the figures, and `model` a copy of its package. Throws what is wrong with the plan.
    public init(
        plan: Data, model: URL, device: any Device = ThisDevice(),
        makeProgram: @escaping @Sendable () -> any Program = { NativeProgram() }
    ) throws {
        struct Passes: Decodable { let passes: [[String]] }
        do {
            passes = try JSONDecoder().decode(Passes.self, from: plan).passes
        } catch {
            throw Failure(description: "this is no plan of edgekit bench: \(error)")
        }
        (self.plan, self.model, self.device, self.makeProgram) = (
            String(decoding: plan, as: UTF8.self), model, device, makeProgram
        )
    }

    /// The recording, JSON that `edgekit bench report` reads. Throws a Failure when a command fails, CancellationError when cancelled.
    public func play(progress: @Sendable (_ done: Int, _ total: Int) async -> Void = { _, _ in }) async throws -> Data {
        let created = ISO8601DateFormatter().string(from: Date())
        let total = passes.reduce(0) { $0 + $1.count }
        var done = 0
        var answers: [String] = []
        for commands in passes {
            let program = makeProgram()
            var pass: [String] = []
            for command in commands {
                try Task.checkCancellation()
                let answer = try await answer(command, program)
                if let failure = (try? JSONDecoder().decode([String: String].self, from: Data(answer.utf8)))?["error"] {
                    throw Failure(description: "\(command.prefix { $0 != " " }): \(failure)")
                }
                pass.append(answer)
                done += 1
                await progress(done, total)
            }
            answers.append("[\(pass.joined(separator: ","))]")
        }
        let named = try json(["kind": "ios", "name": device.name])
        let text =
            #"{"recording":1,"created":"\#(created)","device":\#(named),"plan":\#(plan),"answers":[\#(answers.joined(separator: ","))]}"#
        return Data(text.utf8)
    }

    private func answer(_ command: String, _ program: any Program) async throws -> String {
        let words = command.split(separator: " ").map(String.init)
        switch words.first {
        case "state": return try json(await device.state())
        case "cool" where words.count == 3: return try await cool(limit: Double(words[2]) ?? 0)
        case "facts":
            let facts = ["architecture": "arm64", "system": device.system, "cpu": device.name]
            return try merged(program.answer(command), facts)
        case "stretch": return try merged(program.answer(command), await device.state())
        default: return program.answer(command.replacingOccurrences(of: "MODEL", with: model.path))
        }
    }

    /// Waits until the system holds nothing back, for `limit` seconds at most.
    private func cool(limit: Double) async throws -> String {
        let start = Date()
        var state = await device.state()
        while state.thermalState != "nominal", -start.timeIntervalSinceNow < limit {
            try await Task.sleep(nanoseconds: UInt64(min(5, limit / 10) * 1e9))
            state = await device.state()
        }
        return try merged(#"{"waited_s": \#(-start.timeIntervalSinceNow)}"#, state)
    }

    private func json(_ value: some Encodable) throws -> String {
        String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
    }

    /// The members of both, those of `others` where both have one.
    private func merged(_ answer: String, _ others: some Encodable) throws -> String {
        let parts = try [Data(answer.utf8), JSONEncoder().encode(others)].map {
            try JSONSerialization.jsonObject(with: $0) as? [String: Any] ?? [:]
        }
        let both = parts[0].merging(parts[1]) { _, other in other }
        return String(decoding: try JSONSerialization.data(withJSONObject: both), as: UTF8.self)
    }
}
