import Glibc

/// A process as a record can hold it: told apart from later ones with the same pid by its start time.
package struct ProcessIdentity: Codable, Sendable, Hashable {
    /// The process's number in the caller's pid namespace.
    package let pid: Int32
    /// Start time in clock ticks since boot (proc_pid_stat(5), field 22).
    package let startTime: UInt64

    /// The process that has this number now; nil if there is none, or a zombie only.
    package init?(pid: Int32) {
        guard let status = ProcessStat(pid: pid), !status.hasEnded else { return nil }
        self.pid = pid
        self.startTime = status.startTime
    }

    /// Whether the process still runs (stopped and frozen count).
    package var isAlive: Bool { ProcessIdentity(pid: pid) == self }

    /// One letter, as in ps(1); nil once it has ended.
    package var state: Character? {
        guard let status = ProcessStat(pid: pid), status.startTime == startTime, !status.hasEnded else { return nil }
        return status.state
    }

    /// Exactly this process; nil if it has ended.
    package var handle: ProcessHandle? {
        guard isAlive else { return nil }
        return (try? ProcessHandle(pid: pid, startTime: startTime)) ?? nil
    }

    /// Sends a signal to exactly this process; one that has ended is no error.
    package func signal(_ number: Int32) {
        try? handle?.signal(number)
    }

    /// Waits until the process has ended; false when it has not at the deadline.
    package func waitUntilGone(before deadline: ContinuousClock.Instant) -> Bool {
        guard let handle else { return true }
        return (try? handle.hasEnded(within: deadline.millisecondsLeft)) ?? true
    }
}

extension ProcessStat {
    /// Whether the process only waits to be reaped.
    package var hasEnded: Bool { state == "Z" || state == "X" }
}
