import Foundation
import GRPCCore
import Glibc
import Testing

@testable import Orchestrator

extension ConnectionLimits {
    /// For tests: a busy machine must not look like a broken peer.
    static let patient = ConnectionLimits(connect: .seconds(60), call: .seconds(60))
}

/// A directory that goes away with its test.
struct TemporaryDirectory {
    let path: String

    init() throws {
        // Short: unix sockets live in it.
        var template = Array("/tmp/smirun-store-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    func remove() {
        try? FileManager.default.removeItem(atPath: path)
    }
}

func withDirectory<Value>(_ body: (String) async throws -> Value) async throws -> Value {
    let directory = try TemporaryDirectory()
    defer { directory.remove() }
    return try await body(directory.path)
}

/// A cluster's authority with one host that serves and one that calls, on the loopback interface.
struct TestCluster {
    let authority: CertificateAuthority
    let server: HostIdentity
    let client: HostIdentity

    init() throws {
        authority = try CertificateAuthority.create()
        server = try authority.makeIdentity(host: "h1")
        client = try authority.makeIdentity(host: "h2")
    }

    func serve(
        _ services: [any RegistrableRPCService],
        port: Int = 0,
        greeting: Greeting? = nil
    ) async throws -> ClusterServer {
        try await ClusterServer.start(
            .peers(server, address: "127.0.0.1", port: port),
            greeting: greeting ?? Greeting(host: "h1", build: "test", cluster: server.cluster),
            services: services
        )
    }

    func connections(limits: ConnectionLimits = .patient) -> PeerConnections {
        PeerConnections(identity: client, build: "test", limits: limits)
    }
}

extension ClusterServer {
    var address: PeerAddress {
        get throws { PeerAddress("127.0.0.1", try #require(port)) }
    }
}

/// Runs `body` with a server and ends it afterwards, whatever happens.
func withServer<Value>(
    _ server: ClusterServer,
    _ body: (ClusterServer) async throws -> Value
) async throws -> Value {
    do {
        let value = try await body(server)
        await server.stop(grace: .zero)
        return value
    } catch {
        await server.stop(grace: .zero)
        throw error
    }
}

/// The implementations that must all behave alike.
enum StoreKind: String, CaseIterable, CustomTestStringConvertible {
    case memory
    case sqlite
    case remoteMemory
    case remoteSQLite

    var testDescription: String { rawValue }

    func with<Value>(_ body: (any ClusterStore) async throws -> Value) async throws -> Value {
        try await withDirectory { directory in
            switch self {
            case .memory: return try await body(MemoryStore())
            case .remoteMemory: return try await Self.remote(MemoryStore(), body)
            case .sqlite, .remoteSQLite:
                let store = try SQLiteStore(path: directory + "/cluster.sqlite")
                defer { store.close() }
                return self == .sqlite ? try await body(store) : try await Self.remote(store, body)
            }
        }
    }

    /// The same store through a real connection with mutual TLS.
    private static func remote<Value>(
        _ store: any ClusterStore,
        _ body: (any ClusterStore) async throws -> Value
    ) async throws -> Value {
        let cluster = try TestCluster()
        return try await withServer(try await cluster.serve([StoreService(store)])) { server in
            let connections = cluster.connections()
            let remote = RemoteStore(connections: connections, host: "h1", at: try server.address, limit: .seconds(120))
            do {
                let value = try await body(remote)
                await connections.close(grace: .zero)
                return value
            } catch {
                await connections.close(grace: .zero)
                throw error
            }
        }
    }
}

/// What a command printed and how it ended; errors and output together.
struct Output {
    var status: Int32
    var text: String
}

/// Runs a command with nothing on its standard input.
func run(_ command: String, _ arguments: String...) async throws -> Output {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [command] + arguments
    process.standardInput = FileHandle.nullDevice
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let handle = pipe.fileHandleForReading
    return await withCheckedContinuation { continuation in
        Thread.detachNewThread {
            let data = handle.readDataToEndOfFile()
            process.waitUntilExit()
            continuation.resume(
                returning: Output(status: process.terminationStatus, text: String(decoding: data, as: UTF8.self))
            )
        }
    }
}

/// The error that an operation must throw.
func failure<Failure: Error, Value>(
    _ type: Failure.Type,
    _ body: () async throws -> Value
) async throws -> Failure {
    do {
        let value = try await body()
        Issue.record("succeeded with \(value)")
        throw CancellationError()
    } catch let error as Failure {
        return error
    }
}

/// The middle of some durations, and the one that 99 of 100 stay below.
struct Spread {
    let median: Duration
    let high: Duration

    init(_ durations: [Duration]) {
        let sorted = durations.sorted()
        median = sorted[sorted.count / 2]
        high = sorted[min(sorted.count - 1, sorted.count * 99 / 100)]
    }

    var text: String { "median \(Self.milliseconds(median)) ms, p99 \(Self.milliseconds(high)) ms" }

    static func milliseconds(_ duration: Duration) -> String {
        String(format: "%.3f", duration / .milliseconds(1))
    }
}
