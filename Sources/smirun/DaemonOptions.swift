import ArgumentParser
import Foundation
import Orchestrator

/// Which daemon a command speaks to.
struct DaemonOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The daemon's socket; $SMIRUN_SOCKET or /run/smirun/smirun.sock unless given.",
            visibility: .hidden
        )
    )
    var socket: String?

    /// Path of the control socket.
    var controlSocket: String {
        socket ?? ProcessInfo.processInfo.environment["SMIRUN_SOCKET"] ?? "/run/smirun/smirun.sock"
    }

    /// Path of the socket that hands out connections to machines.
    var sessionSocket: String {
        // Beside the control socket as it really is: in a lab the default one is a link into a host.
        (controlSocket as NSString).deletingLastPathComponent + "/session.sock"
    }

    /// Calls the daemon and decodes its answer.
    func call<Request: Encodable & Sendable, Reply: Decodable & Sendable>(
        _ method: ControlMethod,
        _ request: Request,
        as type: Reply.Type
    ) async throws -> Reply {
        try await ControlConnection.with(socket: controlSocket, build: buildVersion) { connection in
            try decode(type, try await connection.call(method, encode(request)))
        }
    }

    /// Calls the daemon and hands each document of its answer to `body` until that returns a value or the answer ends.
    func stream<Request: Encodable & Sendable, Document: Decodable & Sendable, Result: Sendable>(
        _ method: ControlMethod,
        _ request: Request,
        as type: Document.Type,
        _ body: @escaping @Sendable (Document) throws -> Result?
    ) async throws -> Result? {
        try await ControlConnection.with(socket: controlSocket, build: buildVersion) { connection in
            try await connection.stream(method, encode(request)) { try body(decode(type, $0)) }
        }
    }
}
