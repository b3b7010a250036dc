import BackingStore
import LinuxSystem
import Logging
import Replication
import Synchronization

/// Keeps the replicas of one SMI that runs here fresh: connects to their hosts and makes rounds.
final class ReplicaKeeping: Sendable {
    /// Shortest and longest time between two rounds, seconds.
    private static let intervals = 0.1...5.0

    private let owner: MemoryOwner
    private let around: MemoryService.Surroundings
    /// As of when it was taken up.
    private let record: SMIRecord
    private let pokes: AsyncStream<Void>
    private let poking: AsyncStream<Void>.Continuation
    private let task = Mutex<Task<Void, Never>?>(nil)

    /// Keeps what the store says of the replicas of an SMI whose record is `record`.
    init(_ record: SMIRecord, owner: MemoryOwner, around: MemoryService.Surroundings) {
        self.record = record
        self.owner = owner
        self.around = around
        (pokes, poking) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    private var user: String { record.user }

    func start() {
        poke()
        task.withLock { $0 = Task { await run() } }
    }

    func stop() {
        task.withLock { $0 }?.cancel()
        poking.finish()
    }

    /// Looks at once which replicas there shall be.
    func poke() {
        poking.yield()
    }

    private func run() async {
        var pacer = RoundPacer()
        pacer.bounds = Self.intervals
        var isSettled = false
        for await _ in pokes {
            while !Task.isCancelled {
                if !isSettled { isSettled = await settleReplicas() }
                // A store that does not answer says nothing of which replicas are wanted.
                guard isSettled, let wanted = try? await wantedHosts() else {
                    try? await Task.sleep(for: .seconds(1))
                    continue
                }
                await owner.keepOnly(Set(wanted.map(\.name)))
                await connect(wanted)
                guard !wanted.isEmpty else { break }
                await rounds(until: .now + .seconds(2), &pacer)
            }
        }
    }

    /// Whenever an SMI is taken up: the daemon that took it in from another host may have been killed before it did so.
    private func settleReplicas() async -> Bool {
        do {
            try await around.store.settleReplicas(of: record)
            return true
        } catch {
            around.logger.warning("replicas not noted", metadata: ["user": "\(user)", "error": "\(error)"])
            return false
        }
    }

    private func wantedHosts() async throws -> [HostRecord] {
        var hosts: [HostRecord] = []
        for (record, _) in try await around.store.records(ReplicaRecord.self, prefix: ReplicaRecord.prefix(user))
        where record.host != around.host {
            guard let entry = try await around.store.get(HostRecord.key(record.host)) else { continue }
            hosts.append(try decode(HostRecord.self, entry.value))
        }
        return hosts
    }

    private func connect(_ wanted: [HostRecord]) async {
        let around = around
        for host in wanted {
            do {
                try await owner.connect(host.name) { try await around.open(host) }
            } catch {
                around.logger.info(
                    "replica not reached",
                    metadata: ["user": "\(user)", "replica": "\(host.name)", "error": "\(error)"]
                )
            }
        }
    }

    /// Rounds, paced so that tracking costs the program little, until it is time to look at the replicas again.
    private func rounds(until end: ContinuousClock.Instant, _ pacer: inout RoundPacer) async {
        repeat {
            do {
                let start = ContinuousClock.now
                var wait = pacer.interval
                if let round = try await owner.round() {
                    pacer.finished(dirtyPages: round.writtenPages)
                    wait = pacer.interval
                    if round.isFull {
                        try await bringAcross(until: start + .seconds(wait))
                        // The time that it took was time between two scans, too.
                        wait -= milliseconds(.now - start) / 1000
                    }
                }
                if wait > 0 { try await Task.sleep(for: .seconds(wait)) }
            } catch {
                guard !Task.isCancelled else { return }
                around.logger.warning("round failed", metadata: ["user": "\(user)", "error": "\(error)"])
                try? await Task.sleep(for: .seconds(1))
            }
        } while ContinuousClock.now < end && !Task.isCancelled
    }

    /// Sends more of what a scan has found than one round may, until the next scan is due.
    private func bringAcross(until next: ContinuousClock.Instant) async throws {
        var isMore = true
        while isMore, ContinuousClock.now < next, !Task.isCancelled {
            isMore = try await owner.round(scans: false)?.isFull ?? false
        }
    }
}
