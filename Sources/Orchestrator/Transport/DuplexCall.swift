import GRPCCore
import Synchronization

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

    /// Starts the call; `peer` names the other side in errors, `depth` messages may wait in each direction, and `executor` is
    /// where they pass through.
    package init(
        to peer: String,
        depth: Int = 4,
        on executor: (any TaskExecutor)? = nil,
        _ body: @escaping Body
    ) {
        let outgoing = BoundedChannel<Request>(limit: depth)
        let incoming = BoundedChannel<Reply>(limit: depth)
        self.outgoing = outgoing
        self.incoming = incoming
        self.task = Task(executorPreference: executor) {
            let writing = Writing(on: executor)
            do {
                let request = StreamingClientRequest<Request>(of: Request.self) { writer in
                    try await writing.run {
                        while let message = try await outgoing.next() { try await writer.write(message) }
                    }
                }
                try await body(request) { response in
                    do {
                        for try await message in response.messages { try await incoming.send(message) }
                    } catch {
                        await writing.stop()
                        throw error
                    }
                    await writing.stop()
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

/// The writing of a call's messages, which ends before the call does.
///
/// gRPC closes the stream as soon as the reply has been handled, without waiting for what writes the request: a message
/// that is on its way to the stream then meets a closed one, for which a debug build of gRPC traps.
private final class Writing: Sendable {
    private enum State {
        case notBegun
        case begun(Task<Void, any Error>)
        case stopped
    }

    private let state = Mutex(State.notBegun)
    private let executor: (any TaskExecutor)?

    init(on executor: (any TaskExecutor)?) {
        self.executor = executor
    }

    /// Writes until there is no more, or until it is stopped.
    func run(_ body: @escaping @Sendable () async throws -> Void) async throws {
        let task = state.withLock { state -> Task<Void, any Error>? in
            guard case .notBegun = state else { return nil }
            let task = Task(executorPreference: executor) { try await body() }
            state = .begun(task)
            return task
        }
        guard let task else { throw CancellationError() }
        try await withTaskCancellationHandler {
            try await task.value
        } onCancel: {
            task.cancel()
        }
    }

    /// Returns once nothing is being written and nothing will be.
    func stop() async {
        let before = state.withLock { state in
            defer { state = .stopped }
            return state
        }
        guard case .begun(let task) = before else { return }
        task.cancel()
        _ = await task.result
    }
}

extension OrchestratorError {
    fileprivate init(ended peer: String) {
        self.init(.hostDown, cause: "\(peer) has ended the call", remedy: "look at its daemon's log")
    }
}
