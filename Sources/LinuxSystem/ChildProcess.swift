import CLinux
import Glibc

/// How a process ended.
package struct ExitStatus: Sendable, Equatable {
    /// The exit code, or 128 + the signal's number.
    package let code: Int32

    /// Wraps a code.
    package init(code: Int32) {
        self.code = code
    }

    /// Whether the program ended with 0.
    package var isSuccess: Bool { code == 0 }
}

/// A child of this process, held by pidfd, so that its number can never mean another process.
package final class ChildProcess: Sendable {
    /// The process number in our pid namespace.
    package let pid: Int32
    /// The process as a descriptor (pidfd_open(2)).
    package let pidfd: Descriptor

    /// Takes over a child.
    package init(pid: Int32, pidfd: Descriptor) {
        self.pid = pid
        self.pidfd = pidfd
    }

    /// Takes over a process that became this one's child when its parent ended (`adoptOrphans`); nil where there is none.
    package convenience init?(adopted pid: Int32) throws(SyscallError) {
        guard let handle = try ProcessHandle(pid: pid) else { return nil }
        self.init(pid: pid, pidfd: handle.pidfd)
    }

    /// Makes this process, and no longer the system's init, the parent of its descendants' orphans.
    package static func adoptOrphans() throws(SyscallError) {
        try syscall("prctl", "PR_SET_CHILD_SUBREAPER") { smi_become_subreaper() }
    }

    /// Waits until the child ended and reaps it.
    ///
    /// Blocks the calling thread: use `offload` from async code.
    package func wait() throws(SyscallError) -> ExitStatus {
        let code = smi_wait_pidfd(pidfd.raw, 0)
        guard code >= 0 else { throw SyscallError("waitid", code: -code, subject: "pid \(pid)") }
        return ExitStatus(code: code)
    }

    /// The status of a child that has ended, reaping it; nil while it runs.
    package func poll() throws(SyscallError) -> ExitStatus? {
        let code = smi_wait_pidfd(pidfd.raw, WNOHANG)
        if code == -EAGAIN { return nil }
        guard code >= 0 else { throw SyscallError("waitid", code: -code, subject: "pid \(pid)") }
        return ExitStatus(code: code)
    }

    /// Waits for the end for at most `milliseconds`; false if it still runs.
    ///
    /// Does not reap.
    package func hasEnded(within milliseconds: Int32) throws(SyscallError) -> Bool {
        try ProcessHandle.poll(pidfd, milliseconds: milliseconds)
    }

    /// Sends a signal; a child that has ended is no error.
    package func signal(_ number: Int32) throws(SyscallError) {
        try ProcessHandle.send(number, to: pidfd)
    }
}

/// Any process of this machine, known by number and start time and held by pidfd: survives a restart of the daemon.
package final class ProcessHandle: Sendable {
    /// The process number in our pid namespace.
    package let pid: Int32
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat).
    package let startTime: UInt64
    /// The process as a descriptor.
    package let pidfd: Descriptor

    /// Opens a process by number; nil where none has this number, or it started at another time than `startTime`.
    package init?(pid: Int32, startTime: UInt64? = nil) throws(SyscallError) {
        let raw = smi_pidfd_open(pid)
        if raw < 0 {
            let code = errno
            if code == ESRCH || code == EINVAL { return nil }
            throw SyscallError("pidfd_open", code: code, subject: "pid \(pid)")
        }
        let pidfd = Descriptor(owning: raw)
        // Read after the pidfd is held: from here on the number cannot be given to another process unnoticed.
        guard let status = ProcessStat(pid: pid), startTime == nil || status.startTime == startTime else { return nil }
        self.pid = pid
        self.startTime = status.startTime
        self.pidfd = pidfd
    }

    /// Waits for the end for at most `milliseconds` (-1: for ever); false if it still runs.
    ///
    /// Blocks the thread.
    package func hasEnded(within milliseconds: Int32) throws(SyscallError) -> Bool {
        try Self.poll(pidfd, milliseconds: milliseconds)
    }

    /// Sends a signal; a process that has ended is no error.
    package func signal(_ number: Int32) throws(SyscallError) {
        try Self.send(number, to: pidfd)
    }

    static func poll(_ pidfd: Descriptor, milliseconds: Int32) throws(SyscallError) -> Bool {
        let result = smi_pidfd_poll(pidfd.raw, milliseconds)
        guard result >= 0 else { throw SyscallError("poll", code: -result) }
        return result > 0
    }

    static func send(_ number: Int32, to pidfd: Descriptor) throws(SyscallError) {
        guard smi_pidfd_send_signal(pidfd.raw, number) < 0 else { return }
        let code = errno
        guard code != ESRCH else { return }
        throw SyscallError("pidfd_send_signal", code: code)
    }
}

/// What /proc/PID/stat says of a process (proc_pid_stat(5)).
package struct ProcessStat: Sendable, Equatable {
    /// Name of the program, at most 15 bytes.
    package let name: String
    /// One letter, such as R, S, D, T or Z.
    package let state: Character
    /// The parent's number.
    package let parent: Int32
    /// Start time in clock ticks since boot.
    package let startTime: UInt64
    /// Resident memory, bytes.
    package let residentBytes: Int

    /// Reads a process; nil where there is none.
    package init?(pid: Int32) {
        guard let text = try? FileContents.string(of: "/proc/\(pid)/stat") else { return nil }
        self.init(parsing: text)
    }

    /// Parses a line of /proc/PID/stat; the name may hold spaces and parentheses.
    package init?(parsing text: String) {
        guard let open = text.firstIndex(of: "("), let close = text.lastIndex(of: ")"), open < close else { return nil }
        let fields = text[text.index(after: close)...].split(separator: " ")
        guard fields.count > 21, let state = fields[0].first, let parent = Int32(fields[1]),
            let start = UInt64(fields[19]), let pages = Int(fields[21])
        else { return nil }
        self.name = String(text[text.index(after: open)..<close])
        self.state = state
        self.parent = parent
        self.startTime = start
        self.residentBytes = pages * Int(getpagesize())
    }
}
