import CEdgeKit

/// What the engine refuses. The text says what is wrong, the value seen, and what to do.
public enum EdgeKitError: Error, Sendable, Equatable {
    /// A value the caller passed is out of range or inconsistent.
    case invalidArgument(String)
    /// Bytes that are not what they should be: truncated, corrupt, hostile.
    case invalidFile(String)
    /// A version, layout or feature this build does not have.
    case unsupported(String)
    /// The system refused an allocation.
    case outOfMemory(String)
    /// The memory budget is too small; `neededBytes` is the smallest that would do.
    case overBudget(String, neededBytes: UInt64)
    case io(String)
    /// The chat template raised an error about the messages.
    case template(String)
    case cancelled(String)
    /// The ring is full and the session was made with `OnFull.error`.
    case contextFull(String)
    /// The session hibernated while it was generating; ask again, what it had computed is kept.
    case hibernated
    /// A bug in edgekit.
    case `internal`(String)

    public var message: String {
        switch self {
        case .invalidArgument(let text), .invalidFile(let text), .unsupported(let text), .outOfMemory(let text),
            .overBudget(let text, _), .io(let text), .template(let text), .cancelled(let text),
            .contextFull(let text), .internal(let text):
            return text
        case .hibernated:
            return "the session hibernated while it was generating; ask again, what it had computed is kept"
        }
    }

    init(_ error: edgekit_error, status: edgekit_status) {
        let text = withUnsafeBytes(of: error.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        switch status {
        case EDGEKIT_INVALID_ARGUMENT: self = .invalidArgument(text)
        case EDGEKIT_INVALID_FILE: self = .invalidFile(text)
        case EDGEKIT_UNSUPPORTED: self = .unsupported(text)
        case EDGEKIT_OUT_OF_MEMORY: self = .outOfMemory(text)
        case EDGEKIT_OVER_BUDGET: self = .overBudget(text, neededBytes: error.needed_bytes)
        case EDGEKIT_IO_ERROR: self = .io(text)
        case EDGEKIT_TEMPLATE_ERROR: self = .template(text)
        case EDGEKIT_CANCELLED: self = .cancelled(text)
        case EDGEKIT_CONTEXT_FULL: self = .contextFull(text)
        default: self = .internal(text)
        }
    }
}

extension EdgeKitError: CustomStringConvertible {
    public var description: String { message }
}

/// Runs a call of edgekit.h and throws what it reports.
func check(_ call: (UnsafeMutablePointer<edgekit_error>) -> edgekit_status) throws(EdgeKitError) {
    var error = edgekit_error()
    let status = call(&error)
    if status != EDGEKIT_OK { throw EdgeKitError(error, status: status) }
}

/// A number as C has it, which is not as wide as Swift's.
func exact<Native: FixedWidthInteger>(_ name: String, _ value: Int) throws(EdgeKitError) -> Native {
    guard let native = Native(exactly: value) else {
        throw .invalidArgument("\(name) is \(value); it lies between \(Native.min) and \(Native.max)")
    }
    return native
}

/// What a call that fills a buffer has to say: with room for a page first, then for what it asks.
func fill<Element>(
    _ initial: Element,
    _ call: (UnsafeMutablePointer<Element>?, Int, UnsafeMutablePointer<Int>, UnsafeMutablePointer<edgekit_error>) ->
        edgekit_status
) throws(EdgeKitError) -> [Element] {
    var capacity = 1024
    while true {
        var buffer = [Element](repeating: initial, count: capacity)
        var (needed, error) = (0, edgekit_error())
        let status = buffer.withUnsafeMutableBufferPointer { call($0.baseAddress, $0.count, &needed, &error) }
        if status == EDGEKIT_BUFFER_TOO_SMALL && needed > capacity {
            capacity = needed
        } else if status != EDGEKIT_OK {
            throw EdgeKitError(error, status: status)
        } else {
            buffer.removeLast(buffer.count - needed)
            return buffer
        }
    }
}

extension String {
    /// The text as C has it: UTF-8 bytes and their number.
    func withBytes<Result>(_ body: (UnsafePointer<CChar>?, Int) -> Result) -> Result {
        utf8CString.withUnsafeBufferPointer { body($0.baseAddress, $0.count - 1) }
    }

    init(bytes: [CChar]) { self.init(decoding: bytes.lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self) }

    init(_ span: edgekit_span) {
        let bytes = UnsafeRawBufferPointer(start: span.data, count: span.size)
        self.init(decoding: bytes, as: UTF8.self)
    }
}
