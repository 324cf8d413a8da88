// Intel Macs have no Float16.
#if canImport(CoreAI) && !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
import CEdgeKitCompanion
import CoreAI
import Foundation

/// The functions of Core AI assets, loaded one after the other and run on one text's states. Calls come from the
/// sessions' own threads, which may wait.
@available(iOS 27, macOS 27, macCatalyst 27, visionOS 27, *)
final class CoreAIRunner: @unchecked Sendable {
    private typealias Parts = [InferenceFunction]

    private let functions: [String]
    private let vocabSize: Int
    private let lock = NSLock()
    private var loaded: [String: Parts] = [:]
    private var failure: String?
    private var loading: Task<Void, Never>?

    init(_ assets: [URL], _ functions: [String], _ vocabSize: Int, neuralEngine: Bool) {
        self.functions = functions
        self.vocabSize = vocabSize
        loading = Task.detached { [self] in
            do {
                let options = SpecializationOptions(preferredComputeUnitKind: neuralEngine ? .neuralEngine : .gpu)
                var models: [AIModel] = []
                for asset in assets { models.append(try await AIModel(contentsOf: asset, options: options)) }
                for name in functions where !Task.isCancelled {
                    let parts = try models.map { model in
                        guard let function = try model.loadFunction(named: name) else { throw Missing(name: name) }
                        return function
                    }
                    lock.withLock { loaded[name] = parts }
                }
            } catch {
                lock.withLock { failure = "it does not load: \(error)" }
            }
        }
    }

    private struct Missing: Error, CustomStringConvertible {
        let name: String
        var description: String { "there is no '\(name)'" }
    }

    /// The states of a text, of every part. They stay where they are: functions write into them.
    private final class Text {
        var states: [[String: NDArray]]

        init(_ parts: Parts) {
            states = parts.map { part in
                let names = part.descriptor.stateNames
                return Dictionary(
                    uniqueKeysWithValues: names.compactMap { name in
                        guard case .ndArray(let kind) = part.descriptor.stateDescriptor(of: name) else { return nil }
                        return (name, NDArray(descriptor: kind))
                    })
            }
        }

        /// `views` must be used before the text goes.
        func bind(_ part: Int, into views: inout InferenceFunction.MutableViews) {
            for name in states[part].keys {
                let view = _overrideLifetime(states[part][name]!.mutableRawView(), borrowing: ())
                views.insert(view, for: name)
            }
        }
    }

    // MARK: What the driver calls

    func table() -> edgekit_package_runner {
        var table = edgekit_package_runner()
        table.context = Unmanaged.passRetained(self).toOpaque()
        table.state = { context, why in
            let (loaded, failure) = CoreAIRunner.at(context).known()
            if let failure {
                why?.write(failure)
                return EDGEKIT_COMPANION_FAILED
            }
            return loaded < 2 ? EDGEKIT_COMPANION_LOADING : EDGEKIT_COMPANION_READY
        }
        table.has = { context, name in CoreAIRunner.at(context).parts(String(cString: name!)) == nil ? 0 : 1 }
        table.open = { context, text, _ in
            let runner = CoreAIRunner.at(context)
            text!.pointee = Unmanaged.passRetained(Text(runner.parts(runner.functions[0])!)).toOpaque()
            return EDGEKIT_OK
        }
        table.close = { _, text in Unmanaged<Text>.fromOpaque(text!).release() }
        table.run = { context, text, name, inputs, count, logits, error in
            do {
                let given = UnsafeBufferPointer(start: inputs, count: count)
                let text = Unmanaged<Text>.fromOpaque(text!).takeUnretainedValue()
                try CoreAIRunner.at(context).run(String(cString: name!), given, text, logits)
                return EDGEKIT_OK
            } catch let refused {
                error?.write("\(refused)")
                return EDGEKIT_INTERNAL
            }
        }
        table.release = { context in
            let runner = Unmanaged<CoreAIRunner>.fromOpaque(context!).takeRetainedValue()
            runner.loading?.cancel()
        }
        return table
    }

    private static func at(_ context: UnsafeMutableRawPointer?) -> CoreAIRunner {
        Unmanaged<CoreAIRunner>.fromOpaque(context!).takeUnretainedValue()
    }

    private func known() -> (Int, String?) { lock.withLock { (loaded.count, failure) } }

    private func parts(_ name: String) -> Parts? { lock.withLock { loaded[name] } }

    // MARK: A step

    private func run(
        _ name: String, _ inputs: UnsafeBufferPointer<edgekit_package_input>, _ text: Text,
        _ logits: UnsafeMutablePointer<Float>?
    ) throws {
        guard let parts = parts(name) else { throw Missing(name: name) }
        nonisolated(unsafe) let (inputs, text, logits) = (inputs, text, logits)
        let count = vocabSize
        try waited {
            var (hidden, found): (NDArray?, NDArray?) = (nil, nil)
            for (index, part) in parts.enumerated() {
                var given: [String: NDArray] = [:]
                for input in inputs {
                    let name = String(cString: input.name)
                    guard case .ndArray(let kind) = part.descriptor.inputDescriptor(of: name) else { continue }
                    given[name] = array(input, kind)
                }
                if let hidden { given["hidden"] = hidden }
                var states = InferenceFunction.MutableViews()
                text.bind(index, into: &states)
                var outputs = try await part.run(
                    inputs: given, states: consume states, outputViews: InferenceFunction.MutableViews())
                hidden = outputs.remove("hidden_out")?.ndArray
                found = outputs.remove("logits")?.ndArray
            }
            guard let logits else { return }
            guard let found else { throw Missing(name: "logits") }
            switch found.scalarType {
            case .float16: read(found, as: Float16.self, into: logits, count) { Float($0) }
            default: read(found, as: Float.self, into: logits, count) { $0 }
            }
        }
    }
}

/// Runs asynchronous work on another thread, and waits for it on this one, which is a session's own.
private func waited(_ work: @escaping @Sendable () async throws -> Void) throws {
    let done = DispatchSemaphore(value: 0)
    nonisolated(unsafe) var result: Result<Void, any Error> = .success(())
    Task.detached {
        do { try await work() } catch { result = .failure(error) }
        done.signal()
    }
    done.wait()
    try result.get()
}

/// An input as the function wants it.
@available(iOS 27, macOS 27, macCatalyst 27, visionOS 27, *)
private func array(_ input: edgekit_package_input, _ kind: NDArrayDescriptor) -> NDArray {
    var array = NDArray(descriptor: kind)
    switch array.scalarType {
    case .int32: fill(&array, as: Int32.self) { input.integers[$0] }
    case .float16: fill(&array, as: Float16.self) { Float16(input.values[$0]) }
    default: fill(&array, as: Float.self) { input.values[$0] }
    }
    return array
}

@available(iOS 27, macOS 27, macCatalyst 27, visionOS 27, *)
private func fill<Scalar: BitwiseCopyable>(_ array: inout NDArray, as type: Scalar.Type, _ value: (Int) -> Scalar) {
    array.mutableView(as: type).withUnsafeMutablePointer { numbers, shape, strides in
        var size = 1
        for axis in 0..<shape.count { size *= shape[axis] }
        for i in 0..<size {
            var (rest, at) = (i, 0)
            for axis in (0..<shape.count).reversed() {
                at += rest % shape[axis] * strides[axis]
                rest /= shape[axis]
            }
            numbers[at] = value(i)
        }
    }
}

/// The first `count` numbers, in order.
@available(iOS 27, macOS 27, macCatalyst 27, visionOS 27, *)
private func read<Scalar: BitwiseCopyable>(
    _ array: NDArray, as type: Scalar.Type, into out: UnsafeMutablePointer<Float>, _ count: Int,
    _ value: (Scalar) -> Float
) {
    array.view(as: type).withUnsafePointer { numbers, shape, strides in
        for i in 0..<count {
            var (rest, at) = (i, 0)
            for axis in (0..<shape.count).reversed() {
                at += rest % shape[axis] * strides[axis]
                rest /= shape[axis]
            }
            out[i] = value(numbers[at])
        }
    }
}
#endif
