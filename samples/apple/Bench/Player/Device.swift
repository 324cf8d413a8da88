import Foundation

#if canImport(UIKit) && !os(Linux)
import UIKit
#endif

/// What the system tells an app of the device while it is measured. Nothing tells it the power, or a temperature in degrees.
public struct DeviceState: Sendable, Codable, Equatable {
    /// Of the battery, 0 to 1.
    public var level: Double?
    /// Also: full, with the cable in.
    public var charging: Bool?
    /// nominal, fair, serious or critical: how much the system holds back.
    public var thermalState: String

    public init(level: Double? = nil, charging: Bool? = nil, thermalState: String) {
        (self.level, self.charging, self.thermalState) = (level, charging, thermalState)
    }

    enum CodingKeys: String, CodingKey {
        case level, charging
        case thermalState = "thermal_state"
    }
}

/// The device that plays a plan.
public protocol Device: Sendable {
    /// What its maker calls it: "iPhone17,1".
    var name: String { get }
    /// "iOS 26.1".
    var system: String { get }
    func state() async -> DeviceState
}

/// This one.
public struct ThisDevice: Device {
    public let name: String
    public let system: String

    public init() {
        var facts = utsname()
        uname(&facts)
        name = withUnsafeBytes(of: &facts.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        system = ProcessInfo.processInfo.operatingSystemVersionString
    }

    public func state() async -> DeviceState {
        #if canImport(UIKit) && !os(Linux)
        let (level, charging) = await battery()
        return DeviceState(level: level, charging: charging, thermalState: thermalState)
        #else
        return DeviceState(thermalState: thermalState)
        #endif
    }

    private var thermalState: String {
        #if canImport(Darwin)
        switch ProcessInfo.processInfo.thermalState {
        case .nominal: return "nominal"
        case .fair: return "fair"
        case .serious: return "serious"
        default: return "critical"
        }
        #else
        return "nominal"
        #endif
    }

    #if canImport(UIKit) && !os(Linux)
    @MainActor private func battery() -> (Double?, Bool?) {
        let device = UIDevice.current
        device.isBatteryMonitoringEnabled = true
        let level = device.batteryLevel < 0 ? nil : Double(device.batteryLevel)
        return (level, device.batteryState == .unknown ? nil : device.batteryState != .unplugged)
    }
    #endif
}
