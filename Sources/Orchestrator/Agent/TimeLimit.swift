/// Runs an operation with a time limit; when it passes, the operation is cancelled and an error names what was waited for.
///
/// The operation must react to cancellation: gRPC calls, sleeps and streams do.
package func within<Value: Sendable>(
    _ limit: Duration,
    _ what: String,
    _ operation: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    try await withThrowingTaskGroup(of: Value?.self) { group in
        group.addTask { try await operation() }
        group.addTask {
            try await Task.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        guard let first = try await group.next(), let value = first else {
            throw OrchestratorError(
                .handoffFailed,
                cause: "no answer from \(what) within \(limit)",
                remedy: "check the link between the hosts and the daemons' logs"
            )
        }
        return value
    }
}
