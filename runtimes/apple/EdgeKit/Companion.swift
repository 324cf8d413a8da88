import CEdgeKit
import CEdgeKitCompanion
import Foundation

/// What lies beside a `model.edge` in a folder that `edgekit convert --companion` wrote: a Core ML package or a Core
/// AI asset of the same checkpoint. A model has one by itself; texts move to it once it is loaded.
struct Companion {
    static let file = "companion.json"

    private let facts: Facts
    private let folder: URL

    /// nil when there is none beside the model.
    init?(beside model: URL) throws {
        let beside = model.deletingLastPathComponent()
        guard let data = try? Data(contentsOf: beside.appendingPathComponent(Self.file)) else { return nil }
        do {
            facts = try JSONDecoder().decode(Facts.self, from: data)
        } catch {
            throw EdgeKitError.invalidFile("\(Self.file) is not what edgekit writes: \(error)")
        }
        folder = beside.appendingPathComponent(facts.format)
    }

    /// What drives it, loading from now on; nil where this system has no such runtime. Whoever has it releases it.
    func table() throws(EdgeKitError) -> edgekit_companion? {
        guard let runner = try runner() else { return nil }
        var table = edgekit_companion()
        try check { error in
            facts.withNative(embeddings: folder.appendingPathComponent("embeddings.bin").path) { native in
                withUnsafePointer(to: runner) { edgekit_package_companion(native, $0, &table, error) }
            }
        }
        return table
    }

    /// What lies beside a package, compiled on a Mac: `model.mlmodelc`, `model.aimodelc`. Else the package.
    private func compiled(_ package: URL) -> URL {
        let ending = facts.format == "coreml" ? "mlmodelc" : "aimodelc"
        let beside = package.deletingPathExtension().appendingPathExtension(ending)
        return FileManager.default.fileExists(atPath: beside.path) ? beside : package
    }

    private func runner() throws(EdgeKitError) -> edgekit_package_runner? {
        let packages = facts.packages.map { compiled(folder.appendingPathComponent($0)) }
        switch facts.format {
        case "coreml":
            #if canImport(CoreML)
            guard #available(iOS 18, macOS 15, macCatalyst 18, visionOS 2, *) else { return nil }
            var runner = edgekit_package_runner()
            try check { error in
                withStrings(packages.map(\.path)) { paths in
                    withStrings(facts.functions) { functions in
                        edgekit_coreml_runner(
                            paths.baseAddress, paths.count, functions.baseAddress, functions.count, facts.vocab_size,
                            facts.columns ? 1 : 0, &runner, error)
                    }
                }
            }
            return runner
            #else
            return nil
            #endif
        case "coreai":
            #if canImport(CoreAI) && !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
            guard #available(iOS 27, macOS 27, macCatalyst 27, visionOS 27, *) else { return nil }
            return CoreAIRunner(packages, facts.functions, Int(facts.vocab_size), neuralEngine: facts.columns).table()
            #else
            return nil
            #endif
        default: throw .unsupported("\(Self.file) is of the format '\(facts.format)'; update EdgeKit")
        }
    }
}

/// companion.json.
private struct Facts: Decodable {
    struct Ring: Decodable { let sinks, window, turn, slots: UInt32 }
    struct Rope: Decodable {
        let inv_freq: [Double]
        let factor: Double
    }
    let format: String
    let packages: [String]
    let vocab_size, d_model, window, sinks, chunk, width, conv_kernel: UInt32
    let columns: Bool
    let contexts: [UInt32]
    let rings: [Ring]
    let ropes: [Rope]

    /// In the order to load them: of the longest context first, which take the place of all others.
    var functions: [String] {
        contexts.reversed().flatMap { context in
            [("extend", width), ("prompt", chunk)]
                .filter { $0.1 <= context || context == contexts.last }
                .map { "\($0.0)_\(context)_\($0.1)" }
        }
    }

    func withNative<Result>(embeddings: String, _ body: (UnsafePointer<edgekit_package_facts>) -> Result) -> Result {
        let frequencies = ropes.flatMap(\.inv_freq)
        let circles = rings.map {
            edgekit_package_ring(sinks: $0.sinks, window: $0.window, turn: $0.turn, slots: $0.slots)
        }
        return contexts.withUnsafeBufferPointer { contexts in
            circles.withUnsafeBufferPointer { circles in
                frequencies.withUnsafeBufferPointer { frequencies in
                    var begin = 0
                    let turns = ropes.map { rope in
                        defer { begin += rope.inv_freq.count }
                        let first = frequencies.baseAddress.map { $0 + begin }
                        return edgekit_package_rope(inv_freq: first, count: rope.inv_freq.count, factor: rope.factor)
                    }
                    return turns.withUnsafeBufferPointer { turns in
                        embeddings.withCString { embeddings in
                            format.withCString { name in
                                var native = edgekit_package_facts(
                                    name: name, vocab_size: vocab_size, d_model: d_model, window: window, sinks: sinks,
                                    chunk: chunk, width: width, conv_kernel: conv_kernel, columns: columns ? 1 : 0,
                                    contexts: contexts.baseAddress, contexts_count: contexts.count,
                                    rings: circles.baseAddress, rings_count: circles.count, ropes: turns.baseAddress,
                                    ropes_count: turns.count, embeddings: embeddings, condition: nil)
                                native.condition = columns ? whenCool : whenCoolAndVisible
                                return body(&native)
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The Neural Engine works in the background too.
private let whenCool: @convention(c) (UnsafeMutablePointer<edgekit_error>?) -> edgekit_companion_state = { why in
    #if canImport(Darwin)
    switch ProcessInfo.processInfo.thermalState {
    case .serious, .critical: return resting("the device is hot", why)
    default: break
    }
    #endif
    return EDGEKIT_COMPANION_READY
}

/// The GPU refuses an app that is not on the screen.
private let whenCoolAndVisible: @convention(c) (UnsafeMutablePointer<edgekit_error>?) -> edgekit_companion_state = {
    #if canImport(UIKit)
    if Background.shared.entered { return resting("the app is in the background", $0) }
    #endif
    return whenCool($0)
}

private func resting(_ reason: String, _ why: UnsafeMutablePointer<edgekit_error>?) -> edgekit_companion_state {
    why?.write(reason)
    return EDGEKIT_COMPANION_RESTING
}

extension UnsafeMutablePointer<edgekit_error> {
    /// As much of a message as there is room for.
    func write(_ message: String) {
        withUnsafeMutableBytes(of: &pointee.message) { room in
            let bytes = Array(message.utf8.prefix(room.count - 1)) + [0]
            room.copyBytes(from: bytes)
        }
    }
}

/// Texts as C has them, as long as `body` runs.
private func withStrings<Result>(
    _ texts: [String], _ body: (UnsafeBufferPointer<UnsafePointer<CChar>?>) -> Result
) -> Result {
    let copies = texts.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    return copies.map { UnsafePointer($0) }.withUnsafeBufferPointer(body)
}

#if canImport(UIKit)
/// Whether the app is in the background, asked from any thread.
private final class Background: @unchecked Sendable {
    static let shared = Background()

    private let lock = NSLock()
    private var inside = false
    var entered: Bool { lock.withLock { inside } }

    private init() {
        // By their values: the names are the main actor's.
        for (name, now) in [("DidEnterBackground", true), ("WillEnterForeground", false)] {
            _ = NotificationCenter.default.addObserver(
                forName: Notification.Name("UIApplication\(name)Notification"), object: nil, queue: nil
            ) { [self] _ in lock.withLock { inside = now } }
        }
    }
}
#endif
