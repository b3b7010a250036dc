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

    /// The kernel's switch for grace periods that interrupt the processors instead of waiting until they come by.
    private static let expedited = "/sys/kernel/rcu_expedited"
    private static let users = Mutex((count: 0, isOurs: false))

    /// Runs `body` while what waits for the kernel's readers (a packet filter's commit, a mount that goes away) does so for
    /// microseconds, not for milliseconds.
    ///
    /// The switch is the whole host's: it is set for these moments only, and left alone where it is on anyway. Two daemons on
    /// one host may switch it off for each other, which costs time and nothing else.
    package static func withQuickGracePeriods<Value>(_ body: () throws -> Value) rethrows -> Value {
        users.withLock { users in
            users.count += 1
            guard users.count == 1 else { return }
            let found = try? FileContents.string(of: expedited)
            users.isOurs = found?.hasPrefix("0") == true && (try? FileContents.write("1", to: expedited)) != nil
        }
        defer {
            users.withLock { users in
                users.count -= 1
                guard users.count == 0, users.isOurs else { return }
                users.isOurs = false
                try? FileContents.write("0", to: expedited)
            }
        }
        return try body()
    }
}
