import CEdgeKitBench

/// What answers command lines, by one line of JSON each.
public protocol Program: Sendable {
    func answer(_ line: String) -> String
}

/// The same C++ that edgekit_bench is. Its answers take as long as what they measure: call it off the main actor.
public final class NativeProgram: Program, @unchecked Sendable {  // one task uses it
    private let bench = edgekit_bench_create()

    public init() {}
    deinit { edgekit_bench_free(bench) }

    public func answer(_ line: String) -> String {
        guard let text = edgekit_bench_answer(bench, line) else { return #"{"error": "out of memory"}"# }
        defer { edgekit_bench_free_text(text) }
        return String(cString: text)
    }
}
