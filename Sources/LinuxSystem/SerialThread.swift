import Dispatch
import Synchronization

/// A thread for tasks that block now and then: their jobs run on it one after the other.
///
/// A task that prefers it runs there together with all that it awaits, actors and libraries included (SE-0417). A message then
/// passes through its steps without waking one thread after the other, of which each waits for a processor, and what
/// blocks holds up nothing else. There is a thread while there is something to do, and for a second more.
package final class SerialThread: TaskExecutor {
    private static let patience = DispatchTimeInterval.seconds(1)

    private struct State {
        var jobs: [UnownedJob] = []
        var hasThread = false
        /// The thread has found nothing to do.
        var isWaiting = false
    }

    private enum Call {
        case none
        case wake
        case start
    }

    private let state = Mutex(State())
    private let called = DispatchSemaphore(value: 0)

    /// Has no thread before its first job.
    package init() {}

    /// Takes a job of a task that prefers this executor.
    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let call = state.withLock { state -> Call in
            state.jobs.append(job)
            guard state.hasThread else {
                state.hasThread = true
                return .start
            }
            defer { state.isWaiting = false }
            return state.isWaiting ? .wake : .none
        }
        switch call {
        case .none: break
        case .wake: called.signal()
        case .start: start()
        }
    }

    private func start() {
        guard !startThread({ self.run() }) else { return }
        // Out of threads: the pool does this work rather than losing it.
        let jobs = state.withLock { state in
            defer { state = State() }
            return state.jobs
        }
        for job in jobs { globalConcurrentExecutor.enqueue(job) }
    }

    private func run() {
        while true {
            let jobs = state.withLock { state in
                defer { state.jobs = [] }
                state.isWaiting = state.jobs.isEmpty
                return state.jobs
            }
            for job in jobs { job.runSynchronously(on: asUnownedTaskExecutor()) }
            if jobs.isEmpty, !waits() { return }
        }
    }

    /// Waits for a call; false where none comes, and the thread is to end.
    private func waits() -> Bool {
        if called.wait(timeout: .now() + Self.patience) == .success { return true }
        let ends = state.withLock { state in
            guard state.isWaiting else { return false }
            state = State()
            return true
        }
        // Called in just that moment.
        if !ends { called.wait() }
        return !ends
    }
}
