/// A result that is awaited once and resolved at least once; later results are dropped.
final class FirstResult<Value: Sendable>: Sendable {
    private let stream: AsyncStream<Result<Value, OrchestratorError>>
    private let continuation: AsyncStream<Result<Value, OrchestratorError>>.Continuation

    init() {
        (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(1))
    }

    func resolve(_ result: Result<Value, OrchestratorError>) {
        continuation.yield(result)
        continuation.finish()
    }

    /// Waits for the result.
    ///
    /// - Throws: The failure it was resolved with, or `CancellationError`.
    func value() async throws -> Value {
        for await result in stream { return try result.get() }
        throw CancellationError()
    }
}
