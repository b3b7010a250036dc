import Glibc

/// One process for good: a pid may be used again, a pid with a start time not.
struct ProcessKey: Hashable {
    let pid: pid_t
    /// Clock ticks since boot.
    let startTime: UInt64
}

/// A process by its two numbers: on this host, where it is read, and inside its sandbox, where it keeps its number for life.
///
/// The inner number names the backing file, on every host. Where it is used again, by a later process, the file is too:
/// all that is present of a new process is read, and a cut drops what is not.
package struct FlushedProcess: Hashable, Sendable {
    package let hostPid: pid_t
    package let inner: pid_t

    /// Names a process.
    package init(hostPid: pid_t, inner: pid_t) {
        self.hostPid = hostPid
        self.inner = inner
    }
}

/// The processes that a round is of.
///
/// The round begins before they are listed: a child that is forked after its parent was listed, and is therefore in no list,
/// must count as forked in this round, as it may write to what it shares with its parent until it is listed in the next.
package struct ProcessList: Sendable {
    let glance: SharedGlance
    package let all: [FlushedProcess]

    /// Lists processes that run meanwhile.
    package init(_ find: () async throws -> [FlushedProcess]) async rethrows {
        glance = SharedGlance()
        all = try await find()
    }

    /// Processes that are all that there are: none of them can fork before the round is over.
    package init(still all: [FlushedProcess]) {
        glance = SharedGlance()
        self.all = all
    }
}
