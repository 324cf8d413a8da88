import Dispatch
import Foundation

#if canImport(UIKit)
import UIKit
#endif

/// What the system tells an app that concerns a session; `Session.react(to:)` knows what to do.
///
///     .task { for await condition in SystemCondition.changes() { try? await session.react(to: condition) } }
public enum SystemCondition: Sendable, Equatable {
    public enum Pressure: Sendable { case warning, critical }

    /// The app left the screen: it has seconds, then the system stops it.
    case background
    case foreground
    case memoryPressure(Pressure)

    /// Changes from now on, until the task that reads them ends. Empty where the system has no such notices.
    @MainActor public static func changes() -> AsyncStream<SystemCondition> {
        AsyncStream(bufferingPolicy: .bufferingNewest(8)) { stream in
            var stops: [@Sendable () -> Void] = []
            #if canImport(UIKit)
            let center = NotificationCenter.default
            for (name, condition) in [
                (UIApplication.didEnterBackgroundNotification, SystemCondition.background),
                (UIApplication.willEnterForegroundNotification, .foreground),
            ] {
                nonisolated(unsafe) let observer = center.addObserver(forName: name, object: nil, queue: nil) { _ in
                    stream.yield(condition)
                }
                stops.append { NotificationCenter.default.removeObserver(observer) }
            }
            #endif
            #if canImport(Darwin)
            let source = DispatchSource.makeMemoryPressureSource(eventMask: [.warning, .critical], queue: .global())
            nonisolated(unsafe) let pressure = source
            pressure.setEventHandler {
                stream.yield(.memoryPressure(pressure.data.contains(.critical) ? .critical : .warning))
            }
            pressure.resume()
            stops.append { pressure.cancel() }
            #endif
            let all = stops
            stream.onTermination = { _ in
                for stop in all { stop() }
            }
        }
    }
}
