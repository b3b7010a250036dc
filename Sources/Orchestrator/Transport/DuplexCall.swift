import GRPCCore

/// One bidirectional call as an object: messages are pushed with `send` and pulled with `next`.
///
/// gRPC's own interface takes closures and lives inside one function; a hand-off's state machine and a relayed session
/// outlive any one function. The call ends when the server ends it, on `cancel`, or when the connection breaks; both
/// directions then throw `OrchestratorError`. Forgetting the object cancels the call.
package final class DuplexCall<Request: Sendable, Reply: Sendable>: Sendable {
    private let outgoing: BoundedChannel<Request>
    private let incoming: BoundedChannel<Reply>
    private let task: Task<Void, Never>

    /// The body that makes the call: `{ try await peer.handoff(request: $0, onResponse: $1) }`.
    package typealias Body =
        @Sendable (
            StreamingClientRequest<Request>,
            @escaping @Sendable (StreamingClientResponse<Reply>) async throws -> Void
        ) async throws -> Void

    /// Starts the call; `peer` names the other side in errors, `depth` messages may wait in each direction.
    package init(to peer: String, depth: Int = 4, _ body: @escaping Body) {
        let outgoing = BoundedChannel<Request>(limit: depth)
        let incoming = BoundedChannel<Reply>(limit: depth)
        self.outgoing = outgoing
        self.incoming = incoming
        self.task = Task {
            do {
                let request = StreamingClientRequest<Request>(of: Request.self) { writer in
                    while let message = try await outgoing.next() { try await writer.write(message) }
                }
                try await body(request) { response in
                    for try await message in response.messages { try await incoming.send(message) }
                }
                incoming.finish()
                // The server has ended the call: whoever still sends has to know.
                outgoing.finish(throwing: OrchestratorError(ended: peer))
            } catch {
                let error = OrchestratorError(error, calling: peer)
                incoming.finish(throwing: error)
                outgoing.finish(throwing: error)
            }
        }
    }

    deinit {
        task.cancel()
    }

    /// Queues a message; waits while the connection is behind.
    package func send(_ message: Request) async throws {
        try await outgoing.send(message)
    }

    /// The next message of the server; nil once it has ended the call.
    package func next() async throws -> Reply? {
        try await incoming.next()
    }

    /// Says that no more will be sent.
    package func finish() {
        outgoing.finish()
    }

    /// Breaks the call off.
    package func cancel() {
        task.cancel()
    }
}

extension OrchestratorError {
    fileprivate init(ended peer: String) {
        self.init(.hostDown, cause: "\(peer) has ended the call", remedy: "look at its daemon's log")
    }
}
