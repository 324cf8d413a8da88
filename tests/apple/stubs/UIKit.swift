// As much of UIKit as runtimes/apple and samples/apple use.
import Foundation

@MainActor open class UIApplication {
    public static let shared = UIApplication()
    public var isIdleTimerDisabled = false
    public class var didEnterBackgroundNotification: Notification.Name { Notification.Name("background") }
    public class var willEnterForegroundNotification: Notification.Name { Notification.Name("foreground") }
}

@MainActor public final class UIDevice {
    public enum BatteryState: Sendable { case unknown, unplugged, charging, full }
    public static let current = UIDevice()
    public var isBatteryMonitoringEnabled = false
    public var batteryLevel: Float { -1 }
    public var batteryState: BatteryState { .unknown }
}
