import CLinux
import Glibc
import Synchronization

/// Which processes of this host have made others: a child that came and went between two rounds has written to the
/// shared memory that it inherited, and no mapping is left that would tell.
///
/// Where the kernel does not let us watch, any process may have.
// SAFETY: the C object is used under the lock only, and lives as long as the program.
final class ForkWatch: @unchecked Sendable {
    /// The watch of this program's host.
    static let host = ForkWatch()

    private struct State {
        let watch: OpaquePointer?
        /// Counts looks.
        var position: UInt64 = 0
        /// The look that found a process's latest fork.
        var forks: [pid_t: UInt64] = [:]
        /// The last look that may have missed some.
        var lost: UInt64 = 0
    }

    /// Processes to remember at most.
    private static let limit = 8192

    private let state = Mutex(State(watch: smi_fork_watch_start()))

    /// Takes in what happened until now; the result is for ``hasForked(_:since:)`` later.
    func look() -> UInt64 {
        state.withLock { state in
            state.position += 1
            var parents = [pid_t](repeating: 0, count: 1024)
            var count = parents.count
            while count == parents.count {
                count = state.watch.map { smi_fork_watch_take($0, &parents, parents.count) } ?? -Int(EOVERFLOW)
                for parent in parents.prefix(max(0, count)) { state.forks[parent] = state.position }
            }
            let isTooLong = state.forks.count > Self.limit
            if isTooLong { state.forks = [:] }
            if isTooLong || count < 0 { state.lost = state.position }
            return state.position
        }
    }

    /// Whether any of these processes may have made another one since an earlier look and until the last one.
    func hasForked(_ processes: Set<pid_t>, since position: UInt64) -> Bool {
        state.withLock { state in
            state.lost > position || processes.contains { state.forks[$0, default: 0] > position }
        }
    }
}
