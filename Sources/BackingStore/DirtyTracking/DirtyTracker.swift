import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// Finds, round by round and from outside, which private pages the processes of an SMI have written.
///
/// Each process gets a userfaultfd by injection, with asynchronous write protection and *no events*: nothing in a
/// process ever waits for this tracker, and if it dies, only the tracking is lost. What events would tell is found by
/// the scan itself: memory that a fork, an exec, mremap, brk or mmap made is not registered, the kernel says so
/// (EPERM), and all of it counts as written once. A process that cannot be injected now (stopped, frozen, sharing its
/// memory after vfork) is reported whole until it can. Calls block: use a thread of your own.
package final class DirtyTracker: Sendable {
    private struct State: ~Copyable {
        var processes: [pid_t: TrackedProcess] = [:]

        /// Whether a process runs in the memory of an older one, as after vfork: that one is tracked, not this one, as
        /// a scan by either would hide its findings from the other.
        func isBorrower(_ process: TrackedProcess) -> Bool {
            processes.values.contains {
                ($0.startTime, $0.pid) < (process.startTime, process.pid)
                    && TrackedProcess.sharesMemory($0.pid, process.pid)
            }
        }
    }

    private let state = Mutex(State())

    /// A tracker of no process.
    package init() {}

    /// Sets the processes to track: new ones are added, others forgotten.
    ///
    /// The next scan reports all present pages of a new process.
    package func attach(_ pids: [pid_t]) {
        state.withLock { state in
            let wanted = Set(pids)
            state.processes = state.processes.filter { wanted.contains($0.key) }
            for pid in wanted {
                guard let identity = TrackedProcess.identity(of: pid), !identity.isZombie else {
                    state.processes[pid] = nil
                    continue
                }
                if state.processes[pid]?.startTime != identity.startTime {
                    state.processes[pid] = TrackedProcess(pid: pid, startTime: identity.startTime)
                }
            }
        }
    }

    /// Goes on with what page-in has tracked of a restored process: the next scan reports what was written since the
    /// restore, and all present pages of what is not registered.
    package func adopt(_ adopted: AdoptedProcess) {
        state.withLock { state in
            let process = TrackedProcess(pid: adopted.pid, startTime: adopted.startTime)
            process.adopt(adopted.userfault, written: adopted.written)
            state.processes[adopted.pid] = process
        }
    }

    /// One round over all processes: what was written since the last one.
    ///
    /// Processes that have gone are left out.
    ///
    /// With `presence`, also which pages exist at all: needed before a backing file may be used for a restore.
    /// `frozen` says that the processes are held still, so that none can be injected.
    package func scan(presence: Bool = false, frozen: Bool = false) -> [ProcessDirty] {
        state.withLock { state in
            var result: [ProcessDirty] = []
            for (pid, process) in state.processes.sorted(by: { $0.key < $1.key }) {
                let mayAttach = !frozen && (process.isTracked || !state.isBorrower(process))
                let found = try? process.scan(presence: presence, mayAttach: mayAttach)
                let identity = TrackedProcess.identity(of: pid)
                guard let found, identity?.startTime == process.startTime, identity?.isZombie == false else {
                    state.processes[pid] = nil
                    continue
                }
                result.append(found)
            }
            return result
        }
    }

    /// The processes of the last scan that are still there, with nothing new of them.
    package func known() -> [ProcessDirty] {
        state.withLock { state in
            state.processes.sorted { $0.key < $1.key }.compactMap { pid, process in
                let identity = TrackedProcess.identity(of: pid)
                guard identity?.startTime == process.startTime, identity?.isZombie == false else { return nil }
                return ProcessDirty(
                    pid: pid,
                    startTime: process.startTime,
                    isTracked: process.isTracked,
                    dirty: [],
                    present: nil,
                    mappings: [],
                    sharedWritten: [:]
                )
            }
        }
    }

    /// Ends all tracking; what is attached afterwards is reported whole.
    package func detach() {
        state.withLock { $0.processes = [:] }
    }
}
