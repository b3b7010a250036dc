import Glibc

/// Runs blocking work on a thread of its own, so that system calls that wait never hold up Swift's cooperative pool.
///
/// A thread costs about 30 µs; the work that goes through here (mounts, waits, CRIU requests) costs milliseconds.
package func offload<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        runOnThread { continuation.resume(with: Result(catching: body)) }
    }
}

/// Runs work on a thread of its own, which ends with it.
package func runOnThread(_ body: @escaping @Sendable () -> Void) {
    // Out of threads: the caller's own thread does the work rather than losing it.
    if !startThread(body) { body() }
}

private final class Job: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) {
        self.run = run
    }
}

/// Starts a thread that ends with its work; false where the system has none left.
func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(Job(body)).toOpaque()
    let result = pthread_create(&thread, &attributes, runJob, argument)
    pthread_attr_destroy(&attributes)
    if result != 0 { Unmanaged<Job>.fromOpaque(argument).release() }
    return result == 0
}

/// The thread's entry; a plain function, because a closure made on the main actor would trap here.
private func runJob(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    Unmanaged<Job>.fromOpaque(argument).takeRetainedValue().run()
    return nil
}
