import FoundationEssentials
import GRPCCore

/// What answers the command line's requests.
package protocol ControlHandling: Sendable {
    /// Answers one request with one JSON document; errors travel with cause and remedy.
    func call(_ method: String, _ json: [UInt8]) async throws -> [UInt8]

    /// Answers with any number of documents. The task is cancelled when the client goes away.
    func stream(
        _ method: String,
        _ json: [UInt8],
        _ send: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws
}

/// The daemon's end of the command line's socket.
package struct ControlServer: Sendable {
    private let server: ClusterServer

    /// Listens on a unix socket in a directory that only root may enter.
    package static func start(
        path: String,
        greeting: Greeting,
        handler: any ControlHandling
    ) async throws -> ControlServer {
        ControlServer(
            server: try await ClusterServer.start(
                .unix(path: path),
                greeting: greeting,
                services: [ControlService(handler: handler)]
            )
        )
    }

    /// Lets requests under way end, but no longer than `grace`.
    package func stop(grace: Duration = .seconds(2)) async {
        await server.stop(grace: grace)
    }
}

/// The generated service on top of a handler.
private struct ControlService: Smirun_V1_Control.SimpleServiceProtocol {
    let handler: any ControlHandling

    func call(request: Smirun_V1_ControlRequest, context: ServerContext) async throws -> Smirun_V1_ControlReply {
        do {
            let json = try await cancelling(context) { try await handler.call(request.method, Array(request.json)) }
            return .with { $0.json = Data(json) }
        } catch {
            return failed(error)
        }
    }

    func stream(
        request: Smirun_V1_ControlRequest,
        response: RPCWriter<Smirun_V1_ControlReply>,
        context: ServerContext
    ) async throws {
        do {
            try await cancelling(context) {
                try await handler.stream(request.method, Array(request.json)) { json in
                    try await response.write(.with { $0.json = Data(json) })
                }
            }
        } catch {
            try await response.write(failed(error))
        }
    }

    private func failed(_ error: any Error) -> Smirun_V1_ControlReply {
        .with { $0.failure = OrchestratorError(error, calling: "the daemon").message }
    }
}

/// Runs a handler's work so that it is cancelled when its client goes away or the server stops: gRPC itself only sets
/// a flag.
package func cancelling<Value: Sendable>(
    _ context: ServerContext,
    _ work: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    try await withThrowingTaskGroup(of: Value?.self) { group in
        group.addTask { try await work() }
        group.addTask {
            try await context.cancellation.cancelled
            return nil
        }
        defer { group.cancelAll() }
        guard let first = try await group.next(), let value = first else { throw CancellationError() }
        return value
    }
}
