import SwiftUI

@main
struct BenchApp: App {
    @State private var run = Run()

    var body: some Scene {
        WindowGroup { BenchView(run: run) }
    }
}
