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
        /// What a host has of an SMI.
        package var status: @Sendable (_ user: String, HostRecord) async throws -> PeerSMIStatus
        /// Brings a base image here, so that it is there when the SMI comes.
        package var fetchImage: @Sendable (_ digest: String, _ owner: String) async -> Void
        /// Notes what users may want to know.
        package var events: EventLog
        package var logger: Logger
    }

    /// An SMI that runs here.
    struct Owned {
        let owner: MemoryOwner
        let keeping: ReplicaKeeping
    }

    let around: Surroundings
    let rates = LinkRates()
    let priority = LinkPriority()
    private(set) var owned: [String: Owned] = [:]
    /// Of SMIs that have ended here, whose processes are here still.
    private var leaving: [String: MemoryOwner] = [:]
    var seats: [String: ReplicaSeat] = [:]
    private(set) var keepers: [String: PageKeeper] = [:]
    var arrivals: [String: MemoryArrival] = [:]
    /// Memory that is still coming in, of SMIs that run already.
    var comingIn: [String: Task<Void, Never>] = [:]
    /// Replicas that are served while pages of them have yet to come.
    var lacking: [String: ReplicaSeat] = [:]
    /// Users whose hand-off waits for their memory.
    var awaited: Set<String> = []
    /// Users whose frozen copy is what other hosts get pages from: its files are in use.
    var supplying: Set<String> = []
    /// Called with a user whose memory cannot be served, and whether the host that it came from has all of it.
    private var onLoss: @Sendable (String, ReplicaError, Bool) async -> Void = { _, _, _ in }

    /// A service that keeps nothing yet.
    package init(_ around: Surroundings) {
        self.around = around
    }

    /// Sets what is done about an SMI whose memory is lost: its processes wait for pages that will not come.
    package func onLoss(_ action: @escaping @Sendable (String, ReplicaError, Bool) async -> Void) {
        onLoss = action
    }

    // MARK: - The owner

    /// The owner of an SMI that runs here, once its memory is all here.
    func owner(of user: String) async throws -> MemoryOwner {
        awaited.insert(user)
        await comingIn[user]?.value
        awaited.remove(user)
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
        tracked: [AdoptedProcess] = [],
        epoch: UInt64 = 0
    ) throws {
        let user = record.user
        let (sandboxes, store, host) = (around.sandboxes, around.store, around.host)
        let owner = try MemoryOwner(
            MemoryOwner.Surroundings(
                user: user,
                generation: { try await store.generation(of: user, on: host) },
                image: record.spec.image,
                needsWholeCopy: record.needsWholeCopy,
                processes: { try await sandboxes.flushed(user) },
                rates: rates,
                priority: priority,
                logger: around.logger
            ),
            directory: around.paths.memory(user),
            stores: stores,
            shared: shared,
            tracked: tracked,
            epoch: epoch
        )
        let keeping = ReplicaKeeping(record, owner: owner, around: around)
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
        let (outgoing, out) = AsyncStream<EpochMessage>.makeStream()
        // Pages are asked for while others are on their way.
        let saying = Task {
            for await message in outgoing { try await say(message) }
        }
        await withTaskExecutorPreference(SerialThread()) {
            await takeIn(messages) { out.yield($0) }
        }
        out.finish()
        _ = await saying.result
    }

    private func takeIn(
        _ messages: some AsyncSequence<EpochMessage, any Error>,
        answering tell: @escaping @Sendable (EpochMessage) -> Void
    ) async {
        var seat: ReplicaSeat?
        var stream = 0
        var user = ""
        do {
            for try await message in messages {
                if case .hello(let name, let generation, let image) = message, seat == nil {
                    user = name
                    let taken = try await seatForStream(user, generation: generation, image: image)
                    (seat, stream) = (taken, await taken.begin(tell))
                }
                if case .forget = message {
                    await forgetReplica(user)
                    break
                }
                guard let seat else { throw EpochMessageError(description: "a stream of epochs begins with hello") }
                try await seat.take(message, of: stream)
            }
        } catch {
            around.logger.notice("stream of epochs ended", metadata: ["user": "\(user)", "error": "\(error)"])
        }
        await seat?.end(stream)
    }

    /// The replica that a stream is about: one of an SMI elsewhere, or what runs here and has not come whole.
    private func seatForStream(_ user: String, generation: UInt64, image: String) async throws -> ReplicaSeat {
        if let late = lacking[user] { return late }
        let owner = try await owner(of: user, generation: generation)
        // What it lacks is known once it has been adopted; until then nothing may be said about its files.
        guard owner != around.host else { throw Self.runsHere(user) }
        let seat = try await takeSeat(user)
        try await seat.giveUpLate()
        let fetchImage = around.fetchImage
        Task { await fetchImage(image, owner) }
        return seat
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

    private static func runsHere(_ user: String) -> ReplicaError {
        ReplicaError(cause: "\(user) runs here", remedy: "nothing is to be done: it is its own replica")
    }

    func takeSeat(_ user: String) async throws -> ReplicaSeat {
        guard isValidUserName(user), owned[user] == nil, arrivals[user] == nil, comingIn[user] == nil,
            !supplying.contains(user)
        else {
            throw Self.runsHere(user)
        }
        if let seat = seats[user] { return seat }
        let path = around.paths.memory(user)
        let seat = ReplicaSeat(try await offload { try MemoryReplica(directory: path) })
        if let other = seats[user] { return other }
        seats[user] = seat
        return seat
    }

    private func forgetReplica(_ user: String) async {
        guard owned[user] == nil, arrivals[user] == nil, !supplying.contains(user) else { return }
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
        let around = around
        try await owner.connect(destination.name) { try await around.open(destination) }
        return Departure(owner: owner, service: self, record: record, destination: destination)
    }

    /// Starts what keeps faults waiting if this daemon dies while pages come in.
    package func stage(_ user: String) async {
        let heirs = await around.sandboxes.inheritance(user)
        await (try? takeSeat(user))?.keepFilled(true, for: heirs)
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
        if arrival.isLacking {
            lacking[user] = seat
            await seat.served(by: arrival)
        }
        let images = around.paths.cut(user)
        try await offload {
            try arrival.addImaged { try CriuPageImages.add($1, of: $0, images: images, read: $2) }
            try SharedRestore.prepare(arrival, images: images)
            try InheritedRestore.prepare(arrival, images: images)
        }
        arrivals[user] = arrival
        return Arrival(arrival: arrival, socket: around.paths.pageSocket(user))
    }

    /// Gives up what `stage` and `arrive` have made ready: the SMI is not restored here.
    package func discard(_ user: String) async {
        lacking[user] = nil
        arrivals.removeValue(forKey: user)?.abandon()
        await seats[user]?.keepFilled(false)
        // Nobody is connected to it any more and it keeps nothing: it ends.
        keepers[user] = nil
        unlink(around.paths.pageKeeper(user))
    }

    /// An SMI runs here from now on.
    package func began(_ record: SMIRecord) async {
        let user = record.user
        if let arrival = arrivals.removeValue(forKey: user) {
            let retracking = retracking(user)
            comingIn[user] = Task {
                await takeIn(arrival, record) { try await arrival.allIn(retracking: retracking) }
            }
        } else if let left = await leftBehind(user) {
            if left.arrival.isLacking {
                lacking[user] = left.seat
                await left.seat.served(by: left.arrival)
            }
            let left = left.arrival
            comingIn[user] = Task { await takeIn(left, record) { try await left.takeOver() } }
        } else {
            seats[user] = nil
            guard await !isLacking(user) else { return await lost(user, Self.unkept) }
            own(record)
        }
    }

    private func own(
        _ record: SMIRecord,
        stores: [Int32: PageStore] = [:],
        shared: [Int32: SharedObject] = [:],
        tracked: [AdoptedProcess] = [],
        epoch: UInt64 = 0
    ) {
        do {
            try makeOwner(record, stores: stores, shared: shared, tracked: tracked, epoch: epoch)
        } catch {
            around.logger.error("memory is not kept", metadata: ["user": "\(record.user)", "error": "\(error)"])
        }
    }

    /// Pages that an earlier daemon was serving when it died; nil where it was not.
    private func leftBehind(_ user: String) async -> (arrival: MemoryArrival, seat: ReplicaSeat)? {
        let path = around.paths.pageKeeper(user)
        let directory = around.paths.memory(user)
        return try? await offload {
            let keeper = try PageKeeper.connect(to: path)
            let replica = try MemoryReplica(directory: directory)
            return (try MemoryArrival(replica, keeper: keeper), ReplicaSeat(replica))
        }
    }

    private func takeIn(
        _ arrival: MemoryArrival,
        _ record: SMIRecord,
        _ body: @Sendable () async throws -> Void
    ) async {
        let user = record.user
        do {
            try await body()
            unlink(around.paths.pageKeeper(user))
            // The SMI may have ended meanwhile.
            guard !Task.isCancelled else { return }
            (comingIn[user], lacking[user]) = (nil, nil)
            noteFigures(arrival.figures, of: record)
            note(arrival.trackingFigures, of: record)
            let (stores, shared, epoch) = arrival.handOver()
            let tracked = arrival.adopted
            own(record, stores: stores, shared: shared, tracked: tracked, epoch: epoch)
        } catch {
            guard !Task.isCancelled else { return }
            let error = (error as? ReplicaError) ?? ReplicaError(cause: "\(error)", remedy: "launch the SMI again")
            // What is done about it ends this very task.
            await Task { await lost(user, error) }.value
            comingIn[user] = nil
        }
    }

    /// The memory of an SMI that runs here cannot be served.
    private func lost(_ user: String, _ error: ReplicaError) async {
        around.logger.error("memory lost", metadata: ["user": "\(user)", "error": "\(error)"])
        await onLoss(user, error, isLacking(user))
    }

    /// An SMI does not run here any more; what is here of its memory stays, as a replica.
    package func ended(_ user: String) async {
        guard let owned = owned.removeValue(forKey: user) else { return }
        owned.keeping.stop()
        leaving[user] = owned.owner
        await owned.owner.close()
    }

    /// The processes of an SMI that has ended here are gone, too, or are about to go on here.
    package func left(_ user: String) async {
        await leaving.removeValue(forKey: user)?.endTracking()
    }

    /// Nobody needs an SMI's memory any more, here or on other hosts.
    package func forget(_ user: String) async {
        await endArrival(user)
        if let owned = owned.removeValue(forKey: user) {
            owned.keeping.stop()
            for host in await owned.owner.connected { await owned.owner.remove(host, forgetting: true) }
            await owned.owner.close()
            await owned.owner.endTracking()
        }
        for entry in (try? await around.store.list(prefix: ReplicaRecord.prefix(user))) ?? [] {
            _ = try? await around.store.delete(entry.key, expect: .any)
        }
        seats[user] = nil
        await removeFiles(user)
    }
}
