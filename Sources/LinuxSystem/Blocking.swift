import Glibc

/// Runs blocking work on a thread of its own, so that system calls that wait never hold up Swift's cooperative pool.
///
/// A thread costs about 30 µs; the work that goes through here (mounts, waits, CRIU requests) costs milliseconds.
package func offload<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        let job = Job { continuation.resume(with: Result(catching: body)) }
        startThread(job)
    }
}

/// Runs work on a thread of its own, which ends with it.
package func runOnThread(_ body: @escaping @Sendable () -> Void) {
    startThread(Job(body))
}

private final class Job: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) {
        self.run = run
    }
}

private func startThread(_ job: Job) {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(job).toOpaque()
    let result = pthread_create(&thread, &attributes, runJob, argument)
    pthread_attr_destroy(&attributes)
    guard result == 0 else {
        // Out of threads: the caller's own thread does the work rather than losing it.
        Unmanaged<Job>.fromOpaque(argument).takeRetainedValue().run()
        return
    }
}

/// The thread's entry; a plain function, because a closure made on the main actor would trap here.
private func runJob(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    Unmanaged<Job>.fromOpaque(argument).takeRetainedValue().run()
    return nil
}
