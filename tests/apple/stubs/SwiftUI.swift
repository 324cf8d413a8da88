// As much of SwiftUI as samples/apple uses, so that its sources are type-checked where there is no SwiftUI. Nothing runs.
@_exported import Foundation

@MainActor @preconcurrency public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}
public struct Nothing: View { public var body: Never { fatalError() } }
extension Never: View { public var body: Never { fatalError() } }
extension Optional: View where Wrapped: View { public var body: Never { fatalError() } }
public struct Tuple<each Part: View>: View { public var body: Never { fatalError() } }
public enum Either<One: View, Other: View>: View {
    case one(One)
    case other(Other)
    public var body: Never { fatalError() }
}

@resultBuilder public enum ViewBuilder {
    public static func buildBlock() -> Nothing { fatalError() }
    public static func buildBlock<Part: View>(_ part: Part) -> Part { part }
    public static func buildBlock<each Part: View>(_ part: repeat each Part) -> Tuple<repeat each Part> { fatalError() }
    public static func buildIf<Part: View>(_ part: Part?) -> Part? { part }
    public static func buildEither<One: View, Other: View>(first: One) -> Either<One, Other> { .one(first) }
    public static func buildEither<One: View, Other: View>(second: Other) -> Either<One, Other> { .other(second) }
}

@MainActor @preconcurrency public protocol Scene {
    associatedtype Body: Scene
    @SceneBuilder var body: Body { get }
}
extension Never: Scene {}
@resultBuilder public enum SceneBuilder {
    public static func buildBlock<Part: Scene>(_ part: Part) -> Part { part }
}
@MainActor @preconcurrency public protocol App {
    associatedtype Body: Scene
    @SceneBuilder var body: Body { get }
    init()
}
extension App { public static func main() {} }
public struct WindowGroup<Content: View>: Scene {
    public init(@ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

@propertyWrapper public struct State<Value> {
    public init(wrappedValue: Value) {}
    public var wrappedValue: Value {
        get { fatalError() }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { fatalError() }
}
@propertyWrapper public struct Binding<Value> {
    public init(get: @escaping () -> Value, set: @escaping (Value) -> Void) {}
    public var wrappedValue: Value {
        get { fatalError() }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { self }
}

public struct HorizontalAlignment: Sendable { public static let leading = Self() }
public struct Alignment: Sendable { public static let leading = Self(), center = Self() }
public struct UnitPoint: Sendable { public static let bottom = Self() }
public struct ButtonRole: Sendable { public static let cancel = Self() }
public struct Font: Sendable { public static let title2 = Self(), footnote = Self() }
public protocol ShapeStyle {}
public struct Color: ShapeStyle, Sendable {
    public static let red = Self(), primary = Self(), accentColor = Self()
}
extension ShapeStyle where Self == Color { public static var red: Color { Color.red } }
public protocol TextSelectability {}
public struct EnabledTextSelectability: TextSelectability {}
extension TextSelectability where Self == EnabledTextSelectability { public static var enabled: Self { Self() } }

public struct VStack<Content: View>: View {
    public init(spacing: CGFloat? = nil, @ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}
public struct LazyVStack<Content: View>: View {
    public init(alignment: HorizontalAlignment, spacing: CGFloat? = nil, @ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}
public struct HStack<Content: View>: View {
    public init(spacing: CGFloat? = nil, @ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}
public struct ScrollView<Content: View>: View {
    public init(@ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}
public struct ScrollViewProxy { public func scrollTo<ID: Hashable>(_ id: ID, anchor: UnitPoint? = nil) {} }
public struct ScrollViewReader<Content: View>: View {
    public init(@ViewBuilder content: @escaping (ScrollViewProxy) -> Content) {}
    public var body: Never { fatalError() }
}
public struct ForEach<Items: RandomAccessCollection, Content: View>: View where Items.Element: Identifiable {
    public init(_ items: Items, @ViewBuilder content: @escaping (Items.Element) -> Content) {}
    public var body: Never { fatalError() }
}
public struct Text: View {
    public init<S: StringProtocol>(_ text: S) {}
    public var body: Never { fatalError() }
}
public struct Spacer: View {
    public init() {}
    public var body: Never { fatalError() }
}
public struct TextField: View {
    public init(_ title: String, text: Binding<String>) {}
    public var body: Never { fatalError() }
}
public struct Button: View {
    public init(_ title: String, role: ButtonRole? = nil, action: @escaping @MainActor () -> Void) {}
    public var body: Never { fatalError() }
}
public struct ProgressView<Label: View>: View {
    public init<V: BinaryFloatingPoint>(value: V?, @ViewBuilder label: () -> Label) {}
    public var body: Never { fatalError() }
}
extension ProgressView where Label == Text { public init(_ title: String) {} }

public struct ShareLink: View {
    public init<S: StringProtocol>(_ title: S, item: URL) {}
    public var body: Never { fatalError() }
}

public struct UTType: Sendable { public static let data = UTType() }

extension View {
    public func padding() -> some View { self }
    public func font(_ font: Font?) -> some View { self }
    public func foregroundStyle<S: ShapeStyle>(_ style: S) -> some View { self }
    public func textSelection<S: TextSelectability>(_ selectability: S) -> some View { self }
    public func accessibilityLabel(_ label: String) -> some View { self }
    public func disabled(_ disabled: Bool) -> some View { self }
    public func onSubmit(_ action: @escaping () -> Void) -> some View { self }
    public func onChange<V: Equatable>(of value: V, _ action: @escaping () -> Void) -> some View { self }
    public func task(_ action: @escaping @Sendable @MainActor () async -> Void) -> some View { self }
    public func frame(maxWidth: CGFloat? = nil, maxHeight: CGFloat? = nil, alignment: Alignment = .center) -> some View
    {
        self
    }
    public func fileImporter(
        isPresented: Binding<Bool>, allowedContentTypes: [UTType],
        onCompletion: @escaping (Result<URL, any Error>) -> Void
    ) -> some View { self }
}
