import SwiftUI

struct BenchView: View {
    let run: Run
    @State private var address = ""

    var body: some View {
        VStack(spacing: 16) {
            Text("edgekit bench").font(.title2)
            Text(
                "On your computer: edgekit bench model.edge --device ios. Type the address that it prints, and leave this app open."
            )
            TextField("http://192.168.1.2:8765/k7m2q9xw4t/", text: $address).onSubmit { run.start(address) }
            switch run.phase {
            case .idle: Button("Measure") { run.start(address) }
            case .fetching: ProgressView("Fetching the model")
            case .measuring(let done, let total):
                ProgressView(value: Double(done) / Double(total)) { Text("\(done) of \(total)") }
                Button("Stop", role: .cancel) { run.stop() }
            case .finished: Text("Done: the computer has the figures.")
            }
            if let file = run.file { ShareLink("Share the measurements", item: file) }
            if let problem = run.problem {
                Text(problem).font(.footnote).foregroundStyle(.red).textSelection(.enabled)
            }
        }
        .padding()
    }
}
