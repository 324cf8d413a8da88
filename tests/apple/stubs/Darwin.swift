// What Foundation and Dispatch have on Apple's systems and not on Linux, as much of it as runtimes/apple uses.
@_exported import Dispatch
@_exported import Foundation

public protocol DispatchSourceMemoryPressure: DispatchSourceProtocol {
    var data: DispatchSource.MemoryPressureEvent { get }
}
extension DispatchSource {
    public struct MemoryPressureEvent: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let warning = Self(rawValue: 2)
        public static let critical = Self(rawValue: 4)
    }
    public class func makeMemoryPressureSource(eventMask: MemoryPressureEvent, queue: DispatchQueue? = nil)
        -> any DispatchSourceMemoryPressure
    { fatalError() }
}

extension URLResourceKey {
    public static let volumeAvailableCapacityForImportantUsageKey = URLResourceKey(rawValue: "importantUsage")
}
extension URLResourceValues {
    public var volumeAvailableCapacityForImportantUsage: Int64? { nil }
}
extension URL {
    public func startAccessingSecurityScopedResource() -> Bool { false }
}

extension ProcessInfo {
    public enum ThermalState: Sendable { case nominal, fair, serious, critical }
    public var thermalState: ThermalState { .nominal }
}
