import EdgeKit
import SwiftUI
import UniformTypeIdentifiers

struct ChatView: View {
    let conversation: Conversation
    @State private var draft = ""
    @State private var choosing = false

    var body: some View {
        VStack(spacing: 12) {
            switch conversation.phase {
            case .noModel: ModelPicker(conversation: conversation, choosing: $choosing)
            case .downloading(let fraction):
                ProgressView(value: fraction) { Text("Downloading the model") }
                Button("Stop", role: .cancel) { conversation.stop() }
            case .opening: ProgressView("Opening the model")
            case .ready, .answering, .resting:
                Transcript(lines: conversation.lines)
                Composer(draft: $draft, phase: conversation.phase, send: send, stop: conversation.stop)
                Footer(conversation: conversation)
            }
            if let problem = conversation.problem {
                Text(problem).font(.footnote).foregroundStyle(.red).textSelection(.enabled)
            }
        }
        .padding()
        .fileImporter(isPresented: $choosing, allowedContentTypes: [.data]) { result in
            if case .success(let url) = result { Task { await conversation.open(url) } }
        }
    }

    private func send() {
        let text = draft.trimmingCharacters(in: .whitespacesAndNewlines)
        guard !text.isEmpty else { return }
        draft = ""
        conversation.send(text)
    }
}

private struct ModelPicker: View {
    let conversation: Conversation
    @Binding var choosing: Bool
    @State private var address = ""

    var body: some View {
        VStack(spacing: 16) {
            Text("A model that runs here").font(.title2)
            Button("Choose a .edge file") { choosing = true }
            TextField("https://…/model.edge", text: $address)
                .onSubmit { conversation.download(from: address) }
        }
        .frame(maxWidth: 420, maxHeight: .infinity)
    }
}

private struct Transcript: View {
    let lines: [Conversation.Line]

    var body: some View {
        ScrollViewReader { scroll in
            ScrollView {
                LazyVStack(alignment: .leading, spacing: 10) {
                    ForEach(lines) { line in
                        Text(line.text.isEmpty ? "…" : line.text)
                            .textSelection(.enabled)
                            .foregroundStyle(line.role == .user ? Color.accentColor : Color.primary)
                            .accessibilityLabel("\(line.role.rawValue): \(line.text)")
                    }
                }
                .frame(maxWidth: .infinity, alignment: .leading)
            }
            .onChange(of: lines.last?.text) {
                if let last = lines.last { scroll.scrollTo(last.id, anchor: .bottom) }
            }
        }
    }
}

private struct Composer: View {
    @Binding var draft: String
    let phase: Conversation.Phase
    let send: () -> Void
    let stop: () -> Void

    var body: some View {
        HStack {
            TextField("Message", text: $draft).onSubmit(send)
            if phase == .ready {
                Button("Send", action: send).disabled(draft.isEmpty)
            } else {
                Button("Stop", role: .cancel, action: stop)
            }
        }
    }
}

private struct Footer: View {
    let conversation: Conversation

    var body: some View {
        HStack {
            if let speed = conversation.speed { Text("\(Int(speed.rounded())) tokens/s, \(conversation.unit)") }
            Spacer()
            Button("New conversation") { Task { await conversation.startOver() } }
                .disabled(conversation.lines.isEmpty)
        }
        .font(.footnote)
    }
}
