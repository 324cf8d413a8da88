// swift-tools-version:6.0
import PackageDescription

// The core is built from source, without flags that SwiftPM calls unsafe. `edgekit package apple` makes the same package around a
// prebuilt CEdgeKit.xcframework.
let package = Package(
    name: "EdgeKit",
    // std::to_chars of a double came with these.
    platforms: [.iOS("16.3"), .macOS("13.3"), .macCatalyst("16.3"), .visionOS(.v1)],
    products: [.library(name: "EdgeKit", targets: ["EdgeKit"])],
    targets: [
        .target(
            name: "EdgeKit",
            dependencies: ["CEdgeKit", "CEdgeKitCompanion"],
            path: "runtimes/apple/EdgeKit",
            resources: [.copy("PrivacyInfo.xcprivacy")]
        ),
        // What drives a package that computes beside the processor.
        .target(
            name: "CEdgeKitCompanion",
            dependencies: ["CEdgeKit"],
            path: "runtimes/apple/Companion"
        ),
        .target(
            name: "CEdgeKit",
            dependencies: ["CEdgeKitKernels"],
            path: "cpp",
            exclude: ["CMakeLists.txt", "bench", "fuzz", "swiftpm", "src/isa", "src/gpu", "src/kernels/dispatch.cpp"],
            sources: ["src"],
            cxxSettings: [.headerSearchPath("src")]
        ),
        // cpp/src/isa and the choice among them, each under the target attribute of its instruction set.
        .target(
            name: "CEdgeKitKernels",
            path: "cpp/swiftpm",
            publicHeadersPath: ".",
            cxxSettings: [.headerSearchPath("../src")]
        ),
        .testTarget(
            name: "EdgeKitTests",
            dependencies: ["EdgeKit"],
            path: "tests/apple/EdgeKitTests"
        ),
    ],
    cxxLanguageStandard: .cxx20
)
