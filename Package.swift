// swift-tools-version: 6.1
import PackageDescription

/// Our own Swift is optimised in debug builds too.
///
/// A debug build is what `make demo` and `make test` use, and the
/// hand-off path and the predictor run in it. Dependencies stay as SwiftPM builds them.
let ours: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .unsafeFlags(["-O"], .when(configuration: .debug)),
]

let strictC: [CSetting] = [
    .unsafeFlags(["-Wall", "-Wextra", "-Werror", "-std=gnu17", "-O2"])
]

let package = Package(
    name: "smirun",
    products: [
        .executable(name: "smirun", targets: ["smirun"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-certificates.git", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-crypto.git", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-asn1.git", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-protobuf.git", from: "1.39.0"),
        .package(url: "https://github.com/grpc/grpc-swift-2.git", from: "2.4.3"),
        .package(url: "https://github.com/grpc/grpc-swift-nio-transport.git", from: "2.9.2"),
        .package(url: "https://github.com/grpc/grpc-swift-protobuf.git", from: "2.4.1"),
        .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
        .package(url: "https://github.com/LebJe/TOMLKit.git", from: "0.6.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.1"),
    ],
    targets: [
        .target(name: "CLinux", cSettings: strictC),
        .systemLibrary(name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),
        .target(
            name: "LinuxSystem",
            dependencies: ["CLinux"],
            swiftSettings: ours
        ),
        .target(
            name: "Isolation",
            dependencies: [
                "CLinux", "LinuxSystem", "CSeccomp",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: ours
        ),
        .target(
            name: "CPageStore",
            cSettings: strictC,
            linkerSettings: [.linkedLibrary("zstd"), .linkedLibrary("lz4")]
        ),
        .target(
            name: "BackingStore",
            dependencies: ["CLinux", "LinuxSystem", "CPageStore"],
            swiftSettings: ours
        ),
        .target(
            name: "Replication",
            dependencies: ["BackingStore", "LinuxSystem", .product(name: "Logging", package: "swift-log")],
            swiftSettings: ours
        ),
        .target(
            name: "Mobility",
            dependencies: [
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
            ],
            swiftSettings: ours
        ),
        .target(
            name: "Orchestrator",
            dependencies: [
                "LinuxSystem", "Isolation", "BackingStore", "Replication", "Mobility",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "X509", package: "swift-certificates"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "SwiftASN1", package: "swift-asn1"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
                .product(name: "GRPCCore", package: "grpc-swift-2"),
                .product(name: "GRPCNIOTransportHTTP2Posix", package: "grpc-swift-nio-transport"),
                .product(name: "GRPCProtobuf", package: "grpc-swift-protobuf"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "TOMLKit", package: "TOMLKit"),
            ],
            swiftSettings: ours
        ),
        .executableTarget(
            name: "smirun",
            dependencies: [
                "Orchestrator", "Mobility", "Isolation", "LinuxSystem",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: ours
        ),

        // MARK: Tests. Those that need root say so themselves.
        .target(
            name: "IsolationProbe",
            dependencies: ["Isolation", "LinuxSystem"],
            path: "Tests/Support/IsolationProbe",
            exclude: ["probe.c", "probe.h", "probe_calls.c"],
            swiftSettings: ours
        ),
        .testTarget(
            name: "BackingStoreTests",
            dependencies: ["BackingStore", "CLinux", "LinuxSystem", "CPageStore"],
            exclude: ["Programs"],
            swiftSettings: ours
        ),
        .testTarget(
            name: "CheckpointTests",
            dependencies: ["Isolation", "LinuxSystem", "CLinux"],
            swiftSettings: ours
        ),
        .testTarget(
            name: "ClusterTests",
            dependencies: ["Orchestrator", "Isolation", "IsolationProbe", "LinuxSystem", "smirun"],
            exclude: ["Programs"],
            swiftSettings: ours
        ),
        .testTarget(
            name: "IsolationTests",
            dependencies: ["LinuxSystem", "Isolation", "CSeccomp"],
            swiftSettings: ours
        ),
        .testTarget(
            name: "IsolationRootTests",
            dependencies: ["LinuxSystem", "Isolation", "IsolationProbe"],
            swiftSettings: ours
        ),
        .testTarget(
            name: "LabTests",
            dependencies: ["Orchestrator", "LinuxSystem", "smirun"],
            swiftSettings: ours
        ),
        .testTarget(name: "MobilityTests", dependencies: ["Mobility"], swiftSettings: ours),
        .testTarget(
            name: "OrchestratorTests",
            dependencies: ["Orchestrator", "Isolation", .product(name: "Logging", package: "swift-log")],
            swiftSettings: ours
        ),
        .testTarget(
            name: "ReplicationTests",
            dependencies: [
                "Replication", "BackingStore", "LinuxSystem", .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: ours
        ),
        .testTarget(
            name: "RoamingTests",
            dependencies: [
                "Mobility",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: ours
        ),
        .testTarget(
            name: "SessionTests",
            dependencies: ["Isolation", "LinuxSystem", "CLinux"],
            swiftSettings: ours
        ),
        .testTarget(
            name: "StoreTests",
            dependencies: [
                "Orchestrator", "LinuxSystem",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRPCCore", package: "grpc-swift-2"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "X509", package: "swift-certificates"),
            ],
            swiftSettings: ours
        ),
    ]
)
