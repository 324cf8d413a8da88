import SwiftUI

@main
struct ChatApp: App {
    @State private var conversation = Conversation()

    var body: some Scene {
        WindowGroup {
            ChatView(conversation: conversation)
                .task { await conversation.openBundledModel() }
                .task { await conversation.followSystem() }
        }
    }
}
