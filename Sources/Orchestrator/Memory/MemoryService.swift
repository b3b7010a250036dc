import BackingStore
import Foundation
import Isolation
import LinuxSystem
import Logging
import Replication

/// The memory of the SMIs of a host: of those that run here as their owner, of others as a replica.
package actor MemoryService {
    /// What the service works with.
    package struct Surroundings: Sendable {
        package var host: String
        package var paths: HostPaths
        package var sandboxes: any SandboxHosting
        package var store: any ClusterStore
        /// Opens a stream of epochs to a host.
        package var open: @Sendable (HostRecord) async throws -> any EpochLink
        /// Brings a base image here, so that it is there when the SMI comes.
        package var fetchImage: @Sendable (_ digest: String, _ owner: String) async -> Void
        package var logger: Logger
    }

    /// An SMI that runs here.
    private struct Owned {
        let owner: MemoryOwner
        let keeping: ReplicaKeeping
    }

    let around: Surroundings
    private let rates = LinkRates()
    private let priority = LinkPriority()
    private var owned: [String: Owned] = [:]
    private var seats: [String: ReplicaSeat] = [:]
    private var keepers: [String: PageKeeper] = [:]
    private var arrivals: [String: MemoryArrival] = [:]
    /// Memory that is still coming in, of SMIs that run already.
    private var comingIn: [String: Task<Void, Never>] = [:]
    /// Called with a user whose memory cannot be served.
    private var onLoss: @Sendable (String, ReplicaError) async -> Void = { _, _ in }

    /// A service that keeps nothing yet.
    package init(_ around: Surroundings) {
        self.around = around
    }

    /// Sets what is done about an SMI whose memory is lost: its processes wait for pages that will not come.
    package func onLoss(_ action: @escaping @Sendable (String, ReplicaError) async -> Void) {
        onLoss = action
    }

    // MARK: - The owner

    /// The owner of an SMI that runs here, once its memory is all here.
    func owner(of user: String) async throws -> MemoryOwner {
        await comingIn[user]?.value
        guard let owned = owned[user] else {
            throw ReplicaError(
                cause: "the memory of \(user) is not kept here",
                remedy: "run `smirun inspect \(user)` and try again"
            )
        }
        return owned.owner
    }

    private func makeOwner(
        _ record: SMIRecord,
        stores: [Int32: PageStore] = [:],
        shared: [Int32: SharedObject] = [:],
        epoch: UInt64 = 0,
        previous: String?
    ) throws {
        let user = record.user
        let sandboxes = around.sandboxes
        let owner = try MemoryOwner(
            MemoryOwner.Surroundings(
                user: user,
                generation: UInt64(record.generation),
                image: record.spec.image,
                processes: {
                    try await sandboxes.pids(user).map { FlushedProcess(hostPid: $0.outer, inner: $0.inner) }
                },
                rates: rates,
                priority: priority,
                logger: around.logger
            ),
            directory: around.paths.memory(user),
            stores: stores,
            shared: shared,
            epoch: epoch
        )
        let keeping = ReplicaKeeping(user: user, owner: owner, around: around, previous: previous)
        owned[user] = Owned(owner: owner, keeping: keeping)
        keeping.start()
    }

    /// Looks again at which replicas there shall be.
    package func replicasChanged(_ user: String) {
        owned[user]?.keeping.poke()
    }

    /// How far the replicas of an SMI that runs here are.
    package func status(_ user: String) async -> [ReplicaStatus] {
        await owned[user]?.owner.status() ?? []
    }

    // MARK: - The replica

    /// Serves the stream of an owner on another host.
    func follow(
        _ messages: some AsyncSequence<EpochMessage, any Error>,
        _ say: @escaping @Sendable (EpochMessage) async throws -> Void
    ) async throws {
        var seat: ReplicaSeat?
        var stream = 0
        var user = ""
        do {
            for try await message in messages {
                if case .hello(let name, let generation, let image) = message, seat == nil {
                    user = name
                    let owner = try await owner(of: user, generation: generation)
                    let taken = try await takeSeat(user)
                    (seat, stream) = (taken, await taken.begin())
                    let fetchImage = around.fetchImage
                    Task { await fetchImage(image, owner) }
                }
                if case .forget = message {
                    await forgetReplica(user)
                    break
                }
                guard let seat else { throw EpochMessageError(description: "a stream of epochs begins with hello") }
                if let reply = try await seat.take(message, of: stream) { try await say(reply) }
            }
        } catch {
            around.logger.notice("stream of epochs ended", metadata: ["user": "\(user)", "error": "\(error)"])
        }
        await seat?.end(stream)
    }

    /// The host that owns an SMI; one that owned it before and does not know yet that it does no more is refused.
    private func owner(of user: String, generation: UInt64) async throws -> String {
        guard let record = try await around.store.record(of: user)?.record, generation >= record.generation else {
            throw ReplicaError(
                cause: "generation \(generation) of \(user) is of the past",
                remedy: "nothing is to be done: its owner now keeps the replicas"
            )
        }
        return record.host
    }

    private func takeSeat(_ user: String) async throws -> ReplicaSeat {
        guard isValidUserName(user), owned[user] == nil, arrivals[user] == nil else {
            throw ReplicaError(cause: "\(user) runs here", remedy: "nothing is to be done: it is its own replica")
        }
        if let seat = seats[user] { return seat }
        let path = around.paths.memory(user)
        let seat = ReplicaSeat(try await offload { try MemoryReplica(directory: path) })
        if let other = seats[user] { return other }
        seats[user] = seat
        return seat
    }

    private func forgetReplica(_ user: String) async {
        guard owned[user] == nil, arrivals[user] == nil else { return }
        seats[user] = nil
        await removeFiles(user)
    }

    private func removeFiles(_ user: String) async {
        let path = around.paths.memory(user)
        try? await offload { try Directories.removeTree(path) }
    }

    /// Deletes what is here of SMIs that need no replica on this host any more; once per start of the daemon.
    package func sweep(running: Set<String>) async {
        for user in Directories.entries(of: around.paths.state + "/memory") where !running.contains(user) {
            do {
                let wanted = try await around.store.get(ReplicaRecord.key(user, around.host)) != nil
                let record = try await around.store.record(of: user)?.record
                // The owner's files are what an SMI that arrives, or is restored again, needs.
                if !wanted, record?.host != around.host { await forgetReplica(user) }
            } catch {
                around.logger.notice("replica not looked at", metadata: ["user": "\(user)", "error": "\(error)"])
            }
        }
    }
}

extension MemoryService: MemoryKeeping {
    /// Begins the hand-off of an SMI that runs here.
    package func depart(_ record: SMIRecord, to destination: HostRecord) async throws -> any DepartingMemory {
        let owner = try await owner(of: record.user)
        await owner.leaves(to: destination.name)
        if await !owner.connected.contains(destination.name) {
            try await owner.add(destination.name, over: around.open(destination))
        }
        let store = around.store
        let key = ReplicaRecord.key(record.user, destination.name)
        return Departure(owner: owner, host: destination.name) {
            // Where it is not known, the files are kept: they do no harm.
            do { return try await store.get(key) != nil } catch { return true }
        }
    }

    /// Starts what keeps faults waiting if this daemon dies while pages come in.
    package func stage(_ user: String) async {
        await (try? takeSeat(user))?.keepFilled(true)
        let path = around.paths.pageKeeper(user)
        let executable = around.paths.libexec + "/smi-pagekeeper"
        do {
            try Directories.make(around.paths.run + "/keepers")
            // One of a restore that came to nothing.
            try? PageKeeper.connect(to: path).dropAll()
            let (keeper, pid) = try PageKeeper.start(executable: executable, at: path)
            try await around.sandboxes.moveAside(pid)
            keepers[user] = keeper
        } catch {
            // Pages come in all the same; the daemon's death meanwhile would then cost the SMI.
            around.logger.error("no page keeper", metadata: ["user": "\(user)", "error": "\(error)"])
        }
    }

    /// Waits until an epoch has come in whole, and takes the replica over for the restore.
    package func arrive(_ user: String, epoch: UInt64) async throws -> any ArrivingMemory {
        let seat = try await takeSeat(user)
        guard let replica = await seat.claim(epoch: epoch, limit: .seconds(60)) else {
            throw ReplicaError(
                cause: "epoch \(epoch) of the memory of \(user) did not arrive whole",
                remedy: "try the hand-off again; both daemons' logs have more"
            )
        }
        seats[user] = nil
        let arrival = try MemoryArrival(replica, keeper: keepers.removeValue(forKey: user))
        let images = around.paths.cut(user)
        try await offload {
            try arrival.addImaged { try CriuPageImages.add($1, of: $0, images: images, read: $2) }
            try SharedRestore.prepare(arrival, images: images)
        }
        arrivals[user] = arrival
        return Arrival(arrival: arrival, socket: around.paths.pageSocket(user))
    }

    /// Gives up what `stage` and `arrive` have made ready: the SMI is not restored here.
    package func discard(_ user: String) async {
        arrivals.removeValue(forKey: user)?.abandon()
        await seats[user]?.keepFilled(false)
        // Nobody is connected to it any more and it keeps nothing: it ends.
        keepers[user] = nil
        unlink(around.paths.pageKeeper(user))
    }

    /// An SMI runs here from now on; `previous` is the host that it came from.
    package func began(_ record: SMIRecord, previous: String?) async {
        let user = record.user
        if let arrival = arrivals.removeValue(forKey: user) {
            comingIn[user] = Task { await takeIn(arrival, record, previous: previous) { try await arrival.allIn() } }
        } else if let left = await leftBehind(user) {
            comingIn[user] = Task { await takeIn(left, record, previous: previous) { try await left.takeOver() } }
        } else {
            seats[user] = nil
            own(record, previous: previous)
        }
    }

    private func own(
        _ record: SMIRecord,
        stores: [Int32: PageStore] = [:],
        shared: [Int32: SharedObject] = [:],
        epoch: UInt64 = 0,
        previous: String?
    ) {
        do {
            try makeOwner(record, stores: stores, shared: shared, epoch: epoch, previous: previous)
        } catch {
            around.logger.error("memory is not kept", metadata: ["user": "\(record.user)", "error": "\(error)"])
        }
    }

    /// Pages that an earlier daemon was serving when it died; nil where it was not.
    private func leftBehind(_ user: String) async -> MemoryArrival? {
        let path = around.paths.pageKeeper(user)
        let directory = around.paths.memory(user)
        return try? await offload {
            let keeper = try PageKeeper.connect(to: path)
            return try MemoryArrival(MemoryReplica(directory: directory), keeper: keeper)
        }
    }

    private func takeIn(
        _ arrival: MemoryArrival,
        _ record: SMIRecord,
        previous: String?,
        _ body: @Sendable () async throws -> Void
    ) async {
        let user = record.user
        defer { comingIn[user] = nil }
        do {
            try await body()
            unlink(around.paths.pageKeeper(user))
            let (stores, shared, epoch) = arrival.handOver()
            own(record, stores: stores, shared: shared, epoch: epoch, previous: previous)
        } catch {
            let lost = (error as? ReplicaError) ?? ReplicaError(cause: "\(error)", remedy: "launch the SMI again")
            around.logger.error("memory lost", metadata: ["user": "\(user)", "error": "\(lost)"])
            await onLoss(user, lost)
        }
    }

    /// An SMI does not run here any more; what is here of its memory stays, as a replica.
    package func ended(_ user: String) async {
        guard let owned = owned.removeValue(forKey: user) else { return }
        owned.keeping.stop()
        await owned.owner.close()
    }

    /// Nobody needs an SMI's memory any more, here or on other hosts.
    package func forget(_ user: String) async {
        if let owned = owned.removeValue(forKey: user) {
            owned.keeping.stop()
            for host in await owned.owner.connected { await owned.owner.remove(host, forgetting: true) }
            await owned.owner.close()
        }
        for entry in (try? await around.store.list(prefix: ReplicaRecord.prefix(user))) ?? [] {
            _ = try? await around.store.delete(entry.key, expect: .any)
        }
        seats[user] = nil
        await removeFiles(user)
    }
}

/// The memory of one SMI in a hand-off from here.
private struct Departure: DepartingMemory {
    let owner: MemoryOwner
    let host: String
    /// Whether the destination is to keep a replica where the hand-off fails.
    let isReplica: @Sendable () async -> Bool
    private let sending = Sending()

    init(owner: MemoryOwner, host: String, isReplica: @escaping @Sendable () async -> Bool) {
        self.owner = owner
        self.host = host
        self.isReplica = isReplica
    }

    func warm() async throws -> Warmth { try await owner.warm(host) }

    func cutting(
        _ body: @escaping @Sendable (CarriedCut) async throws -> CheckpointReport
    ) async throws -> CheckpointReport {
        let (report, sending) = try await owner.cutting(to: host) { maker in
            try await body(
                CarriedCut(
                    prepare: { maker.prepare($0.map(\.flushed), directory: $1) },
                    take: { try maker.cut($0.map(\.flushed), directory: $1) }
                )
            )
        }
        await self.sending.set(sending)
        return report
    }

    func sent() async throws -> MemoryCut {
        guard let sending = await sending.value else {
            throw ReplicaError(cause: "there is no cut to send", remedy: "start the hand-off again")
        }
        return try await sending.finished().get()
    }

    func stays() async {
        await owner.stays(isReplica: isReplica())
    }

    private actor Sending {
        var value: CutSending?
        func set(_ sending: CutSending) { value = sending }
    }
}

/// The memory of one SMI that is being restored here.
private struct Arrival: ArrivingMemory {
    let arrival: MemoryArrival
    let socket: String

    func listen() async throws { try arrival.listen(at: socket) }
}

extension NamespacedPid {
    /// The same as the flush names it.
    var flushed: FlushedProcess { FlushedProcess(hostPid: outer, inner: inner) }
}
