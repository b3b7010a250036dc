import Foundation
import Synchronization
import Testing

@testable import Orchestrator

@Suite("The command line's socket", .serialized, .timeLimit(.minutes(5)))
struct ControlTests {
    @Test("answers calls and streams, and carries failures whole")
    func requests() async throws {
        try await withControl(Handler()) { path in
            let client = try await ControlClient.connect(path: path, build: "test", limit: .seconds(60))
            #expect(client.greeting.host == "h1")
            #expect(try await client.call("echo", [1, 2]) == [1, 2])
            let error = try await failure(OrchestratorError.self) { try await client.call("fail", []) }
            #expect(error.code == .userUnknown && error.cause == "no such user" && error.log == "the log")
            let documents = Mutex<[[UInt8]]>([])
            try await client.stream("count", [5]) { json in documents.withLock { $0.append(json) } }
            #expect(documents.withLock { $0 } == [[0], [1], [2], [3], [4]])
            let late = try await failure(OrchestratorError.self) { try await client.stream("fail", []) { _ in } }
            #expect(late.cause == "no such user")
            await client.close()
        }
    }

    @Test("is for root only")
    func permissions() async throws {
        try await withControl(Handler()) { path in
            let attributes = try FileManager.default.attributesOfItem(atPath: path)
            #expect(attributes[.posixPermissions] as? Int == 0o600)
        }
    }

    @Test("is not taken from a daemon that lives, but from one that died")
    func secondDaemon() async throws {
        try await withDirectory { directory in
            let path = directory + "/control.sock"
            let greeting = Greeting(host: "h1", build: "test", cluster: "")
            let first = try await ControlServer.start(path: path, greeting: greeting, handler: Handler())
            let error = try await failure(OrchestratorError.self) {
                try await ControlServer.start(path: path, greeting: greeting, handler: Handler())
            }
            #expect(error.cause.contains("another daemon"))
            await first.stop(grace: .zero)
            // What a killed daemon leaves: a socket that nobody listens on.
            let left = try await run(
                "python3",
                "-c",
                "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])",
                path
            )
            #expect(left.status == 0, "\(left.text)")
            let second = try await ControlServer.start(path: path, greeting: greeting, handler: Handler())
            let client = try await ControlClient.connect(path: path, build: "test", limit: .seconds(60))
            #expect(try await client.call("echo", [3]) == [3])
            await client.close()
            await second.stop(grace: .zero)
        }
    }

    @Test("tells a command line that no daemon is there")
    func noDaemon() async throws {
        try await withDirectory { directory in
            let error = try await failure(OrchestratorError.self) {
                try await ControlClient.connect(path: directory + "/none.sock", build: "test")
            }
            #expect(error.code == .daemonUnreachable)
            #expect(error.cause.contains("none.sock"))
        }
    }

    @Test("refuses a path that no socket can have")
    func longPath() async throws {
        let error = try await failure(OrchestratorError.self) {
            try await ControlServer.start(
                path: "/tmp/" + String(repeating: "x", count: 120),
                greeting: Greeting(host: "h1", build: "test", cluster: ""),
                handler: Handler()
            )
        }
        #expect(error.code == .badArgument)
    }

    @Test("cancels a stream's handler when its client leaves")
    func leavingClient() async throws {
        let (begun, begin) = AsyncStream<Void>.makeStream()
        let (ends, ended) = AsyncStream<Void>.makeStream()
        let handler = Handler(waiting: { begin.yield() }, cancelled: { ended.yield() })
        try await withControl(handler) { path in
            let client = try await ControlClient.connect(path: path, build: "test", limit: .seconds(60))
            let following = Task { try await client.stream("wait", []) { _ in } }
            for await _ in begun { break }
            following.cancel()
            for await _ in ends { break }
            await #expect(throws: OrchestratorError.self) { try await following.value }
            #expect(try await client.call("echo", [4]) == [4])
            await client.close()
        }
    }

    private func withControl(_ handler: Handler, _ body: (String) async throws -> Void) async throws {
        try await withDirectory { directory in
            let path = directory + "/control.sock"
            let greeting = Greeting(host: "h1", build: "test", cluster: "")
            let server = try await ControlServer.start(path: path, greeting: greeting, handler: handler)
            do {
                try await body(path)
                await server.stop(grace: .zero)
            } catch {
                await server.stop(grace: .zero)
                throw error
            }
        }
    }
}

private struct Handler: ControlHandling {
    var waiting: @Sendable () -> Void = {}
    var cancelled: @Sendable () -> Void = {}

    func call(_ method: String, _ json: [UInt8]) async throws -> [UInt8] {
        guard method != "fail" else { throw unknown }
        return json
    }

    func stream(
        _ method: String,
        _ json: [UInt8],
        _ send: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws {
        switch method {
        case "count": for index in 0..<(json.first ?? 0) { try await send([index]) }
        case "wait":
            waiting()
            defer { cancelled() }
            try await Task.sleep(for: .seconds(3600))
        default: throw unknown
        }
    }

    private var unknown: OrchestratorError {
        OrchestratorError(.userUnknown, cause: "no such user", remedy: "launch it", log: "the log")
    }
}
