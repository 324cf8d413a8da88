// As much of UIKit as runtimes/apple uses.
import Foundation

@MainActor open class UIApplication {
    public class var didEnterBackgroundNotification: Notification.Name { Notification.Name("background") }
    public class var willEnterForegroundNotification: Notification.Name { Notification.Name("foreground") }
}
