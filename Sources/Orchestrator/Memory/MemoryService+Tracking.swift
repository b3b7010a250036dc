import BackingStore
import Isolation
import LinuxSystem
import Replication

/// Tracking that goes on over a move.
extension MemoryService {
    /// What the tracking of an SMI that arrives needs to go on.
    func retracking(_ user: String) -> Retracking {
        let sandboxes = around.sandboxes
        return Retracking(
            processes: { try await sandboxes.flushed(user) },
            still: { body in try await sandboxes.still(user, body) },
            mayStop: { [weak self] in await self?.awaited.contains(user) == false && !Task.isCancelled }
        )
    }

    /// Says what it took for tracking to go on.
    func note(_ figures: TrackingFigures, of record: SMIRecord) {
        around.logger.info(
            "tracking goes on",
            metadata: [
                "user": "\(record.user)", "generation": "\(record.generation)",
                "processes": "\(figures.processes)", "written-pages": "\(figures.writtenPages)",
                "inherited-pages": "\(figures.inheritedPages)",
                "stops": "\(figures.stops)", "stopped-ms": "\(milliseconds(figures.stopped))",
                "longest-stop-ms": "\(milliseconds(figures.longestStop))",
            ]
        )
    }
}

/// The memory of one SMI that is being restored here.
struct Arrival: ArrivingMemory {
    let arrival: MemoryArrival
    let socket: String

    func listen() async throws { try arrival.listen(at: socket) }
    func frozen(_ processes: @escaping @Sendable () -> [NamespacedPid]) {
        arrival.beginTracking { processes().map(\.flushed) }
    }
    func resuming() async { await arrival.endBeginning() }
}

extension SandboxHosting {
    /// The processes of a sandbox, as the flush names them.
    func flushed(_ user: String) async throws -> [FlushedProcess] { try await pids(user).map(\.flushed) }
}

extension NamespacedPid {
    /// The same as the flush names it.
    var flushed: FlushedProcess { FlushedProcess(hostPid: outer, inner: inner) }
}
