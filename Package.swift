// swift-tools-version:6.0
import PackageDescription

// The core is built from source, without flags that SwiftPM calls unsafe. `edgekit package apple` makes the same package around a
// prebuilt CEdgeKit.xcframework.
let package = Package(
    name: "EdgeKit",
    // std::to_chars of a double came with these.
    platforms: [.iOS("16.3"), .macOS("13.3"), .macCatalyst("16.3"), .visionOS(.v1)],
    products: [
        .library(name: "EdgeKit", targets: ["EdgeKit"]),
        .library(name: "EdgeKitBench", targets: ["EdgeKitBench"]),
    ],
    targets: [
        .target(
            name: "EdgeKit",
            dependencies: ["CEdgeKit", "CEdgeKitCompanion"],
            path: "runtimes/apple/EdgeKit",
            resources: [.copy("PrivacyInfo.xcprivacy")]
        ),
        // What drives a package that computes beside the processor. It and CEdgeKitBench read edgekit.h where it lies: as a module of a
        // dependency, C++20 on Linux has no way to it.
        .target(
            name: "CEdgeKitCompanion",
            path: "runtimes/apple/Companion",
            cxxSettings: [.headerSearchPath("../../../cpp/include")]
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
        // `edgekit bench --device ios` in an app: samples/apple/Bench, or one's own.
        .target(
            name: "EdgeKitBench",
            dependencies: ["CEdgeKit", "CEdgeKitBench"],
            path: "samples/apple/Bench/Player"
        ),
        .target(
            name: "CEdgeKitBench",
            path: "samples/apple/Bench/CBench",
            cxxSettings: [
                .headerSearchPath("../../../../cpp/bench"), .headerSearchPath("../../../../cpp/include"),
            ]
        ),
        .testTarget(
            name: "EdgeKitBenchTests",
            dependencies: ["EdgeKitBench"],
            path: "tests/apple/EdgeKitBenchTests"
        ),
        .testTarget(
            name: "EdgeKitTests",
            dependencies: ["EdgeKit"],
            path: "tests/apple/EdgeKitTests"
        ),
    ],
    cxxLanguageStandard: .cxx20
)
