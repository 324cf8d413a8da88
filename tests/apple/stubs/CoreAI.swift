// As much of Core AI as runtimes/apple uses, with the names that apple/coreai-models (BSD-3) calls. Its views do not
// escape, which the Swift of this check cannot say.
import Foundation

public struct SpecializationOptions: Sendable {
    public enum ComputeUnitKind: Sendable { case cpu, gpu, neuralEngine }
    public init(preferredComputeUnitKind: ComputeUnitKind) {}
}

public struct AIModel: Sendable {
    public init(contentsOf url: URL, options: SpecializationOptions) async throws { fatalError() }
    public func loadFunction(named name: String) throws -> InferenceFunction? { fatalError() }
}

public struct InferenceFunctionDescriptor: Sendable {
    public enum Value: Sendable { case ndArray(NDArrayDescriptor) }
    public var stateNames: [String] { fatalError() }
    public func inputDescriptor(of name: String) -> Value? { fatalError() }
    public func stateDescriptor(of name: String) -> Value? { fatalError() }
}

public struct InferenceFunction: Sendable {
    public struct MutableViews: ~Copyable {
        public init() {}
        public mutating func insert(_ view: NDArray.MutableRawView, for name: String) {}
    }
    public struct Output { public var ndArray: NDArray? { fatalError() } }
    public struct Outputs { public mutating func remove(_ name: String) -> Output? { fatalError() } }
    public var descriptor: InferenceFunctionDescriptor { fatalError() }
    public func run(inputs: [String: NDArray], states: consuming MutableViews, outputViews: consuming MutableViews)
        async throws -> Outputs
    { fatalError() }
}

public struct NDArrayDescriptor: Sendable {}

public struct NDArray: Sendable {
    public enum ScalarType: Sendable { case float16, float32, int32, other }
    public struct MutableRawView {}
    public struct View<Scalar> {
        public func withUnsafePointer<R>(_ body: (UnsafePointer<Scalar>, [Int], [Int]) -> R) -> R { fatalError() }
    }
    public struct MutableView<Scalar> {
        public func withUnsafeMutablePointer<R>(_ body: (UnsafeMutablePointer<Scalar>, [Int], [Int]) -> R) -> R {
            fatalError()
        }
    }
    public init(descriptor: NDArrayDescriptor) {}
    public var scalarType: ScalarType { fatalError() }
    public mutating func mutableRawView() -> MutableRawView { fatalError() }
    public func view<Scalar: BitwiseCopyable>(as type: Scalar.Type) -> View<Scalar> { fatalError() }
    public mutating func mutableView<Scalar: BitwiseCopyable>(as type: Scalar.Type) -> MutableView<Scalar> {
        fatalError()
    }
}

/// The standard library's, from Swift 6.2 on.
public func _overrideLifetime<View>(_ view: View, borrowing: Void) -> View { view }
