import BackingStore
import LinuxSystem
import Logging
import Replication
import Synchronization

/// Keeps the replicas of one SMI that runs here fresh: connects to their hosts and makes rounds.
final class ReplicaKeeping: Sendable {
    /// Shortest and longest time between two rounds, seconds.
    private static let intervals = 0.1...5.0

    private let user: String
    private let owner: MemoryOwner
    private let around: MemoryService.Surroundings
    private let previous: String?
    private let pokes: AsyncStream<Void>
    private let poking: AsyncStream<Void>.Continuation
    private let task = Mutex<Task<Void, Never>?>(nil)

    /// `previous`: the host that the SMI came from, which becomes a replica.
    init(user: String, owner: MemoryOwner, around: MemoryService.Surroundings, previous: String?) {
        self.user = user
        self.owner = owner
        self.around = around
        self.previous = previous
        (pokes, poking) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

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
        await settleReplicas()
        for await _ in pokes {
            while !Task.isCancelled {
                // A store that does not answer says nothing of which replicas are wanted.
                guard let wanted = try? await wantedHosts() else {
                    try? await Task.sleep(for: .seconds(1))
                    continue
                }
                await owner.keepOnly(Set(wanted.map(\.name)))
                await connect(wanted)
                guard !wanted.isEmpty else { break }
                await rounds(until: .now + .seconds(2))
            }
        }
    }

    /// After a hand-off: where it came from is a replica now, where it is none; an earlier such replica ends.
    private func settleReplicas() async {
        guard let previous else { return }
        do {
            var reason = ReplicaRecord.Reason.previous
            for (record, _) in try await around.store.records(ReplicaRecord.self, prefix: ReplicaRecord.prefix(user)) {
                if record.host == around.host, record.reason == .named { reason = .named }
                if record.host == around.host || record.reason == .previous && record.host != previous {
                    _ = try await around.store.delete(ReplicaRecord.key(user, record.host), expect: .any)
                }
            }
            let record = ReplicaRecord(user: user, host: previous, reason: reason, since: secondsSince1970())
            try await around.store.write(ReplicaRecord.key(user, previous), record, expect: .any)
        } catch {
            around.logger.warning("replicas not noted", metadata: ["user": "\(user)", "error": "\(error)"])
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
        let connected = await owner.connected
        for host in wanted where !connected.contains(host.name) {
            do {
                try await owner.add(host.name, over: around.open(host))
            } catch {
                around.logger.info(
                    "replica not reached",
                    metadata: ["user": "\(user)", "replica": "\(host.name)", "error": "\(error)"]
                )
            }
        }
    }

    /// Rounds, paced so that tracking costs the program little, until it is time to look at the replicas again.
    private func rounds(until end: ContinuousClock.Instant) async {
        var pacer = RoundPacer()
        pacer.bounds = Self.intervals
        var last = ContinuousClock.now
        repeat {
            do {
                if let round = try await owner.round() {
                    let now = ContinuousClock.now
                    pacer.finished(dirtyPages: round.writtenPages, after: milliseconds(now - last) / 1000)
                    last = now
                }
                try await Task.sleep(for: .seconds(pacer.interval))
            } catch {
                guard !Task.isCancelled else { return }
                around.logger.warning("round failed", metadata: ["user": "\(user)", "error": "\(error)"])
                try? await Task.sleep(for: .seconds(1))
            }
        } while ContinuousClock.now < end && !Task.isCancelled
    }
}
