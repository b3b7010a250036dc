import CLinux
import Glibc
import Synchronization

/// What makes work that a frozen machine waits for go before other work of the host.
package enum Urgency {
    /// The nice value of a daemon, and of the CRIU that it runs: before what the machines' programs do, whose nice is theirs.
    private static let nice: Int32 = -15

    /// Lets all threads of this process, and those that they make, go before programs of the usual priority.
    ///
    /// Programs that are started are not raised (`SpawnRequest`). A kernel that refuses leaves everything as it was.
    package static func raiseThisProcess() {
        for name in Directories.entries(of: "/proc/self/task") {
            if let thread = UInt32(name) { setpriority(Int32(PRIO_PROCESS.rawValue), thread, nice) }
        }
    }

    /// The same for a child that has one thread still.
    package static func raise(_ pid: Int32) {
        setpriority(Int32(PRIO_PROCESS.rawValue), UInt32(pid), nice)
    }

    /// Keeps the calling thread on one processor, where it goes before everything else (SCHED_FIFO, sched(7)).
    package static func goFirst(on processor: Int) throws(SyscallError) {
        let result = smi_go_first(Int32(processor))
        guard result == 0 else { throw SyscallError("sched_setscheduler", code: -result) }
    }

    /// The kernel's switch for grace periods that interrupt the processors instead of waiting until they come by.
    private static let expedited = "/sys/kernel/rcu_expedited"
    private struct Users {
        var count = 0
        var isOurs = false
        /// Exists while the switch is on because of this daemon.
        var note: String?
    }
    private static let users = Mutex(Users())

    /// The note's name in a host's state directory.
    package static let noteName = "quick-grace-periods"

    /// Keeps a note at a path while the switch is on; where an earlier daemon died and left one, the switch goes back first.
    package static func keepNote(at path: String) {
        putBack(notedAt: path)
        users.withLock { $0.note = path }
    }

    /// Puts the switch back for a daemon that died while it was on.
    package static func putBack(notedAt path: String) {
        guard access(path, F_OK) == 0 else { return }
        try? FileContents.write("0", to: expedited)
        unlink(path)
    }

    /// Runs `body` while what waits for the kernel's readers (a packet filter's commit, a mount that goes away) does so for
    /// microseconds, not for milliseconds.
    ///
    /// The switch is the whole host's: it is set for these moments only, and left alone where it is on anyway. Two daemons on
    /// one host may switch it off for each other, which costs time and nothing else.
    package static func withQuickGracePeriods<Value>(_ body: () throws -> Value) rethrows -> Value {
        users.withLock { users in
            users.count += 1
            guard users.count == 1 else { return }
            guard let found = try? FileContents.string(of: expedited), found.hasPrefix("0") else { return }
            if let note = users.note { _ = try? Descriptor(open: note, O_CREAT | O_WRONLY, mode: 0o600) }
            users.isOurs = (try? FileContents.write("1", to: expedited)) != nil
        }
        defer {
            users.withLock { users in
                users.count -= 1
                guard users.count == 0, users.isOurs else { return }
                users.isOurs = false
                try? FileContents.write("0", to: expedited)
                if let note = users.note { unlink(note) }
            }
        }
        return try body()
    }
}
