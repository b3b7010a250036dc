import Foundation
import LinuxSystem
import Orchestrator
import Testing

/// The built command line, run as a user runs it.
struct Smirun: Sendable {
    /// What a run left.
    struct Result: Sendable {
        var status: Int32
        var output: String
        var error: String
    }

    /// The package's folder.
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    /// The binary that `make build` made.
    static let binary = root + "/out/bin/smirun"

    /// The control socket to speak to; nil uses the default.
    var socket: String?

    /// Runs a command to its end.
    @discardableResult
    func run(_ arguments: [String], input: String? = nil, timeout: Duration = .seconds(120)) async throws -> Result {
        try await offload { [self] in
            var command = HelperCommand([Self.binary] + arguments)
            if let socket { command.environment.append("SMIRUN_SOCKET=\(socket)") }
            let result = try command.run(input: input ?? "", timeout: timeout)
            return Result(status: result.status, output: result.output, error: result.error)
        }
    }

    /// Runs a command that has to succeed and returns what it printed.
    @discardableResult
    func expect(
        _ arguments: String...,
        input: String? = nil,
        timeout: Duration = .seconds(120),
        at location: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let result = try await run(arguments, input: input, timeout: timeout)
        #expect(
            result.status == 0,
            "smirun \(arguments.joined(separator: " ")): \(result.error)",
            sourceLocation: location
        )
        return result.output
    }

    /// Runs a command that has to be refused and returns what it said.
    func refused(
        _ arguments: String...,
        status: Int32 = 1,
        at location: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let result = try await run(arguments)
        #expect(result.status == status, "\(result.output)\(result.error)", sourceLocation: location)
        #expect(result.error.hasPrefix("error: "), "\(result.error)", sourceLocation: location)
        #expect(result.error.contains("help: "), "\(result.error)", sourceLocation: location)
        return result.error
    }

    /// Runs a shell command inside a machine.
    func shell(_ user: String, _ script: String, at location: SourceLocation = #_sourceLocation) async throws -> String
    {
        try await expect("exec", user, "--", "sh", "-c", script, at: location)
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Runs a program inside with any bytes as its input and returns what it printed.
    func execute(_ user: String, _ argv: [String], input: [UInt8]) async throws -> String {
        let file = "/tmp/smirun-test-input-\(UUID().uuidString)"
        try Data(input).write(to: URL(fileURLWithPath: file))
        defer { try? FileManager.default.removeItem(atPath: file) }
        return try await offload { [self] in
            let redirected = ["sh", "-c", "exec \"$@\" < \(file)", "sh", Self.binary, "exec", user, "--"] + argv
            var command = HelperCommand(redirected)
            if let socket { command.environment.append("SMIRUN_SOCKET=\(socket)") }
            return try command.run(timeout: .seconds(60)).output
        }
    }

    /// What is known of an SMI.
    func inspect(_ user: String) async throws -> SMIView {
        try JSONDecoder().decode(SMIView.self, from: Data(try await expect("inspect", user, "-o", "json").utf8))
    }

    /// Where an SMI is.
    func host(of user: String) async throws -> String { try await inspect(user).host }

    /// Moves an SMI and returns the report.
    @discardableResult
    func handOff(
        _ user: String,
        to host: String,
        at location: SourceLocation = #_sourceLocation
    ) async throws -> HandoffReport {
        let output = try await expect("handoff", user, "--to", host, "--wait", "-o", "json", at: location)
        return try JSONDecoder().decode(HandoffReport.self, from: Data(output.utf8))
    }

    /// Waits until a host holds a replica of an SMI that keeps up with it.
    func freshReplica(of user: String, on host: String) async throws -> ReplicaView {
        var listed = ""
        do {
            return try await eventually("a fresh replica of \(user) on \(host)") {
                listed = try await expect("replica", "ls", user, "-o", "json")
                let replicas = try JSONDecoder().decode([ReplicaView].self, from: Data(listed.utf8))
                return replicas.first { $0.host == host && $0.connected && $0.epoch > 0 && $0.epochsBehind <= 1 }
            }
        } catch let silence as Silence {
            let events = try await run(["events", user]).output.split(separator: "\n").suffix(8)
            throw Silence(cause: "\(silence.cause); replicas: \(listed); events: \(events.joined(separator: "; "))")
        }
    }
}
