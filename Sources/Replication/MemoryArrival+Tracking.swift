import BackingStore
import LinuxSystem
import Synchronization

/// What an arrival needs for the tracking of its processes to go on once all pages are in.
package struct Retracking: Sendable {
    /// The processes of the SMI, now.
    package var processes: @Sendable () async throws -> [FlushedProcess]
    /// Has `body` stop the processes while nothing else is done to the SMI.
    package var still: @Sendable (_ body: @escaping @Sendable (Stillness) async throws -> Void) async throws -> Void
    /// False where a hand-off waits: what has not been taken over by then is read whole.
    package var mayStop: @Sendable () async -> Bool

    /// Everything that is needed.
    package init(
        processes: @escaping @Sendable () async throws -> [FlushedProcess],
        still: @escaping @Sendable (_ body: @escaping @Sendable (Stillness) async throws -> Void) async throws -> Void,
        mayStop: @escaping @Sendable () async -> Bool
    ) {
        self.processes = processes
        self.still = still
        self.mayStop = mayStop
    }
}

/// How tracking went on over a move.
package struct TrackingFigures: Sendable {
    /// Processes whose tracking goes on.
    package var processes = 0
    /// How often they were stopped, for how long altogether and at most.
    package var stops = 0
    package var stopped = Duration.zero
    package var longestStop = Duration.zero
    /// Pages written since the restore, as far as tracking has told.
    package var writtenPages = 0
    /// Pages that the processes had at once, as they inherited them.
    package var inheritedPages = 0
}

/// The tracking of processes that have been restored.
final class TrackingOn: Sendable {
    struct State {
        var beginning: Task<Void, Never>?
        var adopted: [AdoptedProcess] = []
        var figures = TrackingFigures()
    }

    let state = Mutex(State())
    /// The processes go on: what is not tracked by now stays so.
    let isOver = Flag()
}

/// A restored program's writes are tracked from its first instruction on, so that the new owner need not read everything.
extension MemoryArrival {
    /// Begins to track restored processes that are stopped still, beside whatever else is done; first those that inherit
    /// memory, which is waited for.
    package func beginTracking(_ processes: @escaping @Sendable () -> [FlushedProcess]) {
        let heirs = Set(sources.filter { !$0.value.inherited.isEmpty }.keys)
        let task = Task { [server, tracking] in
            let all = (try? await offload(processes)) ?? []
            let order = all.filter { heirs.contains($0.inner) } + all.filter { !heirs.contains($0.inner) }
            for process in order where heirs.contains(process.inner) || !tracking.isOver.isSet {
                // One that cannot be tracked is read whole later.
                try? await server.track(process)
            }
        }
        tracking.state.withLock { $0.beginning = task }
    }

    /// Waits until nothing is changed about the tracking any more: the processes are about to go on.
    package func endBeginning() async {
        tracking.isOver.set()
        await tracking.state.withLock { $0.beginning }?.value
    }

    /// The processes go on: CRIU, which they have inherited from, may end, once it is known what they have written.
    func confirmInherited() async {
        guard let inherited = replica.inherited else { return }
        await server.confirmInherited()
        inherited.letGo()
    }

    /// Processes whose tracking goes on, for the owner; once all pages are in.
    package var adopted: [AdoptedProcess] { tracking.state.withLock { $0.adopted } }

    /// How that went.
    package var trackingFigures: TrackingFigures { tracking.state.withLock { $0.figures } }

    /// All pages are in: the tracking goes over to userfaultfds that nothing in the processes waits for.
    ///
    /// Whatever fails costs a read of the memory that it is about, and nothing else.
    func trackOn(_ retracking: Retracking) async {
        let tracked = await server.tracked()
        guard !tracked.isEmpty, let all = try? await retracking.processes() else { return }
        let wanted = all.filter { tracked.contains($0.inner) }
        guard await retracking.mayStop(),
            let processes = try? await offload({ wanted.compactMap { RetrackedProcess($0) } }),
            !processes.isEmpty
        else { return }
        var figures = TrackingFigures()
        for stop in RetrackingStop.all(for: processes) {
            guard await retracking.mayStop(), let took = await made(stop, processes, retracking) else { break }
            figures.stops += 1
            figures.stopped += took
            figures.longestStop = max(figures.longestStop, took)
            // The program gets at least four fifths of the time.
            try? await Task.sleep(for: took * 4)
        }
        let adopted = await server.adoptable(processes)
        figures.processes = adopted.count
        figures.writtenPages = adopted.reduce(0) { $0 + $1.writtenPages }
        figures.inheritedPages = adopted.reduce(0) { $0 + $1.inheritedPages }
        tracking.state.withLock { ($0.adopted, $0.figures) = (adopted, figures) }
    }

    /// One stop: how long it was; nil where it was not made, once more than the processes can be expected to need.
    private func made(
        _ stop: RetrackingStop,
        _ processes: [RetrackedProcess],
        _ retracking: Retracking
    ) async -> Duration? {
        let length = Mutex<Duration?>(nil)
        for _ in 0..<3 {
            try? await retracking.still { [server] stillness in
                let took = try await server.retrack(stop, of: processes, stillness)
                length.withLock { $0 = took }
            }
            if let took = length.withLock({ $0 }) { return took }
        }
        return nil
    }
}
