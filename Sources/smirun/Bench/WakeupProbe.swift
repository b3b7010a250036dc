import Glibc
import LinuxSystem
import Synchronization

/// How late this machine wakes a thread that goes before all others: what no program on it can do better than.
///
/// On each processor a thread of the highest real-time priority (SCHED_FIFO, sched(7)) sleeps for a millisecond at a time. What
/// it is late by is the kernel's, where it cannot be interrupted, and the hypervisor's, where that runs something else.
final class WakeupProbe: Sendable {
    private static let period = 1_000_000

    private struct State {
        var isOver = false
        var latest: Int?
    }

    private let state: SharedState

    private final class SharedState: Sendable {
        let value = Mutex(State())
    }

    /// Begins to measure.
    init() {
        state = SharedState()
        for processor in 0..<sysconf(Int32(_SC_NPROCESSORS_ONLN)) {
            let state = state
            runOnThread { Self.measure(processor, state) }
        }
    }

    /// Ends it.
    ///
    /// - Returns: the longest time that a thread was woken late by, ms; nil where the kernel refuses the priority.
    func finish() -> Double? {
        state.value.withLock { state in
            state.isOver = true
            return state.latest.map { Double($0) / 1e6 }
        }
    }

    deinit {
        state.value.withLock { $0.isOver = true }
    }

    private static func measure(_ processor: Int, _ state: SharedState) {
        guard (try? Urgency.goFirst(on: processor)) != nil else { return }
        var due = now()
        while true {
            due += period
            var time = timespec(tv_sec: due / 1_000_000_000, tv_nsec: due % 1_000_000_000)
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nil)
            let late = now() - due
            let isOver = state.value.withLock { state in
                if !state.isOver { state.latest = max(state.latest ?? 0, late) }
                return state.isOver
            }
            if isOver { return }
            // One that is late by more than a period has missed the next ones.
            if late > period { due = now() }
        }
    }

    /// CLOCK_MONOTONIC, ns.
    private static func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}
