// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "EdgeKit",
    platforms: [.iOS("16.3"), .macOS("13.3"), .visionOS(.v1)],
    products: [.library(name: "EdgeKit", targets: ["EdgeKit"])],
    targets: [
        .target(
            name: "EdgeKit",
            dependencies: ["CEdgeKit", "CEdgeKitCompanion"],
            resources: [.copy("PrivacyInfo.xcprivacy")],
            linkerSettings: [.linkedLibrary("c++")]
        ),
        .target(name: "CEdgeKitCompanion", dependencies: ["CEdgeKit"]),
        .binaryTarget(name: "CEdgeKit", path: "CEdgeKit.xcframework"),
    ],
    cxxLanguageStandard: .cxx20
)
