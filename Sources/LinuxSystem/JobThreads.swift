import Dispatch
import Glibc
import Synchronization

/// Threads for blocking work: as many as there is work at a time, kept for a moment afterwards.
///
/// To wake one takes some 10 µs, to make one and to end it some 150 of a processor (two cores, kernel 6.18), and a hand-off has
/// dozens of such steps. A job leaves the thread as it was: its namespaces, signal mask and working directory.
enum JobThreads {
    /// How long a thread waits for more.
    static let patience = DispatchTimeInterval.seconds(1)

    /// The threads that wait, the one that has worked last at the end: its stack is in the cache still.
    private static let idle = Mutex<[JobThread]>([])

    static func run(_ job: @escaping @Sendable () -> Void) {
        if let thread = idle.withLock({ $0.popLast() }) {
            thread.take(job)
        } else {
            start(JobThread(job))
        }
    }

    fileprivate static func wait(_ thread: JobThread) {
        idle.withLock { $0.append(thread) }
    }

    /// False where the thread has been taken for a job, which comes.
    fileprivate static func retire(_ thread: JobThread) -> Bool {
        idle.withLock { idle in
            guard let place = idle.firstIndex(where: { $0 === thread }) else { return false }
            idle.remove(at: place)
            return true
        }
    }

    private static func start(_ job: JobThread) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(job).toOpaque()
        let result = pthread_create(&thread, &attributes, runJobs, argument)
        pthread_attr_destroy(&attributes)
        guard result == 0 else {
            // Out of threads: the caller's own thread does the work rather than losing it.
            Unmanaged<JobThread>.fromOpaque(argument).takeRetainedValue().work()
            return
        }
    }
}

/// One of the threads, and what it does next.
private final class JobThread: Sendable {
    private let job: Mutex<(@Sendable () -> Void)?>
    private let called = DispatchSemaphore(value: 0)

    init(_ job: @escaping @Sendable () -> Void) {
        self.job = Mutex(job)
    }

    /// From whoever has taken the thread out of those that wait.
    func take(_ next: @escaping @Sendable () -> Void) {
        job.withLock { $0 = next }
        called.signal()
    }

    func work() {
        job.withLock { $0.take() }?()
    }

    func run() {
        work()
        while true {
            JobThreads.wait(self)
            if called.wait(timeout: .now() + JobThreads.patience) == .timedOut {
                guard !JobThreads.retire(self) else { return }
                called.wait()
            }
            work()
        }
    }
}

/// The thread's entry; a plain function, because a closure made on the main actor would trap here.
private func runJobs(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    Unmanaged<JobThread>.fromOpaque(argument).takeRetainedValue().run()
    return nil
}
