import Foundation

/// One message of a conversation.
public struct Message: Sendable, Equatable {
    public struct Role: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        public static let system = Role(rawValue: "system")
        public static let user = Role(rawValue: "user")
        public static let assistant = Role(rawValue: "assistant")
        public static let tool = Role(rawValue: "tool")
    }

    public var role: Role
    public var content: String
    /// What else the template reads of a message, such as "tool_calls".
    public var members: [String: JSON]

    public init(_ role: Role, _ content: String, members: [String: JSON] = [:]) {
        self.role = role
        self.content = content
        self.members = members
    }

    private var json: JSON {
        .object(members.merging(["role": .string(role.rawValue), "content": .string(content)]) { _, own in own })
    }

    /// All that a chat template reads, as JSON.
    static func context(
        _ messages: [Message], _ tools: [JSON]?, _ variables: [String: JSON]
    ) throws(EdgeKitError) -> String {
        var context = variables
        context["messages"] = .array(messages.map(\.json))
        context["tools"] = tools.map(JSON.array)
        guard let data = try? JSONEncoder().encode(context) else {
            throw .invalidArgument("the conversation has a number that JSON cannot hold; give finite numbers")
        }
        return String(decoding: data, as: UTF8.self)
    }
}
