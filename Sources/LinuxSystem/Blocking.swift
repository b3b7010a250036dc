/// Runs blocking work on a thread that does nothing else meanwhile, so that system calls that wait never hold up Swift's
/// cooperative pool.
///
/// However many wait, there is a thread for each (`JobThreads`).
package func offload<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        JobThreads.run { continuation.resume(with: Result(catching: body)) }
    }
}

/// Runs work beside the caller, on a thread that does nothing else meanwhile.
package func runOnThread(_ body: @escaping @Sendable () -> Void) {
    JobThreads.run(body)
}
