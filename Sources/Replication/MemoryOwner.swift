import BackingStore
import LinuxSystem
import Logging

/// The memory of an SMI that runs on this host, and its replicas on others.
///
/// Rounds, catch-ups and the cut come one after the other. A replica that is up to date gets each round as it is made,
/// as deltas against the epoch before; one that is new or was away first gets what changed since its own last epoch.
package actor MemoryOwner {
    /// What an owner works with.
    package struct Surroundings: Sendable {
        package var user: String
        package var generation: UInt64
        package var image: String
        /// There must be a restorable copy at any moment: a program that writes too fast is slowed down for a hand-off.
        package var needsWholeCopy: Bool
        /// The processes of the SMI, now.
        package var processes: @Sendable () async throws -> [FlushedProcess]
        package var rates: LinkRates
        package var priority: LinkPriority
        package var logger: Logger

        /// Everything an owner needs.
        package init(
            user: String,
            generation: UInt64,
            image: String,
            needsWholeCopy: Bool = false,
            processes: @escaping @Sendable () async throws -> [FlushedProcess],
            rates: LinkRates,
            priority: LinkPriority,
            logger: Logger
        ) {
            self.user = user
            self.generation = generation
            self.image = image
            self.needsWholeCopy = needsWholeCopy
            self.processes = processes
            self.rates = rates
            self.priority = priority
            self.logger = logger
        }
    }

    /// How a transfer is paced.
    enum Urgency {
        /// Leaves a part of the link free, and gives way to cuts.
        case background
        /// A hand-off waits for it.
        case handoff
    }

    struct Subscriber {
        let link: any EpochLink
        /// The last epoch that it holds whole.
        var epoch: UInt64
        /// When it answered last.
        var heard: ContinuousClock.Instant
    }

    /// Pages flushed in one round at most: 16 MB.
    private static let roundLimit = 4096

    let around: Surroundings
    let journal: MemoryJournal
    let turns = UserLocks()
    var subscribers: [String: Subscriber] = [:]
    /// A cut was made, and whether it is this host that goes on is not known yet.
    ///
    /// An epoch more, made here, would be of another past than those of the next owner.
    var isLeaving = false
    /// Where a hand-off goes to: its stream is not given up, replica or not.
    private(set) var destination: String?
    private(set) var residual = Residual(pages: 0, wireBytesPerPage: 4096, pagesPerSecond: 0)

    /// An owner of the memory of a directory; `stores` and `epoch` are what this host holds of it already, `shared` says
    /// what the backing files of shared memory are of.
    package init(
        _ around: Surroundings,
        directory: String,
        stores: [Int32: PageStore] = [:],
        shared: [Int32: SharedObject] = [:],
        epoch: UInt64 = 0
    ) throws {
        self.around = around
        let directory = try EpochDirectory(directory)
        let last = max(epoch, directory.epoch)
        journal = MemoryJournal(directory: directory, stores: stores, shared: shared, epoch: last)
    }

    // MARK: - Replicas

    /// Takes up a replica over a new stream; it says which epoch it holds.
    package func add(_ host: String, over link: any EpochLink) async throws {
        do {
            try await link.send(
                .hello(user: around.user, generation: around.generation, image: around.image)
            )
            guard case .welcome(let epoch) = try await link.next() else { throw Self.silent(host) }
            subscribers[host]?.link.close()
            // An epoch that this owner does not know is of another past: everything is sent.
            let known = epoch <= journal.epoch ? epoch : 0
            journal.skip(to: epoch)
            subscribers[host] = Subscriber(link: link, epoch: known, heard: .now)
        } catch {
            link.close()
            throw error
        }
    }

    /// Gives up a replica; with `forgetting` its files go too.
    package func remove(_ host: String, forgetting: Bool) async {
        guard let subscriber = subscribers.removeValue(forKey: host) else { return }
        if forgetting { await Self.sayForget(subscriber.link) }
        subscriber.link.close()
    }

    /// Waits, a moment at most, until the replica has ended the stream: it has read the message then.
    private static func sayForget(_ link: any EpochLink) async {
        let saying = Task {
            try await link.send(.forget)
            while try await link.next() != nil {}
        }
        let alarm = Task {
            try await Task.sleep(for: .seconds(2))
            saying.cancel()
        }
        _ = await saying.result
        alarm.cancel()
    }

    /// Hosts with a stream.
    package var connected: Set<String> { Set(subscribers.keys) }

    /// How far each connected replica is behind.
    package func status() async -> [ReplicaStatus] {
        let epoch = journal.epoch
        var result: [ReplicaStatus] = []
        for (host, subscriber) in subscribers.sorted(by: { $0.key < $1.key }) {
            let rate = await around.rates.rate(to: host)
            let status = ReplicaStatus(
                host: host,
                epoch: subscriber.epoch,
                epochsBehind: epoch - min(epoch, subscriber.epoch),
                bytesBehind: Int64(residual.wireBytes),
                secondsBehind: seconds(ContinuousClock.now - subscriber.heard),
                bytesPerSecond: rate
            )
            result.append(status)
        }
        return result
    }

    /// A hand-off to a host begins.
    package func leaves(to host: String) {
        destination = host
    }

    /// The SMI goes on here after all; the destination is asked again what it has, as its stream may have broken anywhere.
    ///
    /// `isReplica`: whether it keeps what it has.
    package func stays(isReplica: Bool) async {
        isLeaving = false
        guard let host = destination else { return }
        destination = nil
        await remove(host, forgetting: !isReplica)
    }

    /// The pages of the processes that a late cut has frozen.
    package func frozenPages() -> FrozenPages { journal.frozenPages() }

    /// Where the backing files are.
    package var directory: EpochDirectory { journal.directory }

    /// Takes a replica's stream out, for other use; nil where it is broken.
    package func takeLink(_ host: String) -> (any EpochLink)? {
        subscribers.removeValue(forKey: host)?.link
    }

    /// Gives up the replicas on hosts that none is wanted on.
    package func keepOnly(_ hosts: Set<String>) async {
        for host in subscribers.keys where !hosts.contains(host) && host != destination {
            await remove(host, forgetting: true)
        }
        guard subscribers.isEmpty else { return }
        let journal = journal
        _ = try? await offload { journal.rest() }
    }

    // MARK: - Rounds

    /// One background round, and what replicas that are behind lack; nil where there is no replica.
    package func round() async throws -> EpochRound? {
        guard !subscribers.isEmpty else { return nil }
        return try await turns.whileAlone(around.user) {
            guard !isLeaving else { return nil }
            let round = try await flush(.live)
            await deliver(round, .background)
            for host in subscribers.keys { await catchUp(host, .background) }
            return round
        }
    }

    /// Flushes; replicas are not told yet.
    func flush(_ kind: MemoryFlush.Kind) async throws -> EpochRound {
        let processes = try await around.processes()
        let rate = await slowest()
        let journal = journal
        let round = try await offload {
            try journal.round(kind, processes, limit: Self.roundLimit, link: rate)
        }
        residual = round.residual
        return round
    }

    /// The rate of the slowest link to a replica, bytes a second.
    private func slowest() async -> Double {
        var slowest = Double.infinity
        for host in subscribers.keys { slowest = min(slowest, await around.rates.rate(to: host)) }
        return slowest.isFinite ? slowest : LinkRates.unmeasured
    }

    /// Sends a round to every replica that it builds upon.
    func deliver(_ round: EpochRound, _ urgency: Urgency) async {
        for (host, subscriber) in subscribers where subscriber.epoch == round.base {
            await send(.round(round), to: host, subscriber, urgency)
        }
    }

    /// Brings a replica that is behind to the last epoch, from the backing files.
    func catchUp(_ host: String, _ urgency: Urgency) async {
        guard let subscriber = subscribers[host], subscriber.epoch < journal.epoch else { return }
        let changes = journal.changes(after: subscriber.epoch)
        let codec = PageDelta.Codec.best(forLink: await around.rates.rate(to: host))
        await send(.changes(changes, codec, epoch: journal.epoch), to: host, subscriber, urgency)
    }

    /// What one epoch is sent from.
    private enum Content {
        case round(EpochRound)
        case changes(ChangedPages, PageDelta.Codec, epoch: UInt64)

        var epoch: UInt64 {
            switch self {
            case .round(let round): round.epoch
            case .changes(_, _, let epoch): epoch
            }
        }
    }

    /// Sends one epoch and takes in what the replica says to it; a stream that breaks is given up.
    private func send(_ content: Content, to host: String, _ subscriber: Subscriber, _ urgency: Urgency) async {
        do {
            let rate = await around.rates.rate(to: host)
            var pace = Pace(host: host, link: subscriber.link, urgency: urgency, rate: rate)
            try await pace.send(.begin(epoch: content.epoch, quick: false), around.priority)
            let processes: [Int32]
            switch content {
            case .round(let round):
                for message in round.messages { try await pace.send(message, around.priority) }
                processes = round.processes
            case .changes(let changes, let codec, _):
                var changes = changes
                while true {
                    try Task.checkCancellation()
                    let now = changes
                    let (message, rest) = try await offload { try now.next(codec: codec) }
                    guard let message else { break }
                    changes = rest
                    try await pace.send(message, around.priority)
                }
                processes = changes.processes
            }
            try await pace.send(.end(epoch: content.epoch, processes: processes), around.priority)
            try await answer(of: host, subscriber.link, to: content.epoch)
            if urgency == .handoff { await around.rates.transferred(pace.bytes, in: pace.elapsed, to: host) }
        } catch {
            lost(host, error)
        }
    }

    private func answer(of host: String, _ link: any EpochLink, to epoch: UInt64) async throws {
        switch try await link.next() {
        case .whole(let whole) where whole == epoch:
            subscribers[host]?.epoch = epoch
        case .behind(let held, let cause):
            around.logger.warning(
                "replica did not take an epoch",
                metadata: ["user": "\(around.user)", "replica": "\(host)", "epoch": "\(epoch)", "cause": "\(cause)"]
            )
            subscribers[host]?.epoch = min(held, epoch - 1)
        default:
            throw Self.silent(host)
        }
        subscribers[host]?.heard = .now
    }

    /// A stream broke: the replica keeps what it has, and is taken up again by whoever keeps the connections.
    private func lost(_ host: String, _ error: any Error) {
        around.logger.notice(
            "replica lost",
            metadata: ["user": "\(around.user)", "replica": "\(host)", "error": "\(error)"]
        )
        subscribers.removeValue(forKey: host)?.link.close()
    }

    private static func silent(_ host: String) -> ReplicaError {
        ReplicaError(
            cause: "host \(host) ended the stream of epochs",
            remedy: "look at its daemon's log; it is connected again by itself"
        )
    }

    /// Ends everything: the SMI does not run here any more.
    ///
    /// The backing files stay, as a replica.
    package func close() async {
        await turns.acquire(around.user)
        for subscriber in subscribers.values { subscriber.link.close() }
        subscribers = [:]
        let journal = journal
        _ = try? await offload { journal.close() }
        await turns.release(around.user)
    }
}

/// One transfer, at the speed that its urgency allows.
private struct Pace {
    let host: String
    let link: any EpochLink
    let urgency: MemoryOwner.Urgency
    private var budget: BandwidthBudget
    private let start = ContinuousClock.now
    private(set) var bytes = 0

    init(host: String, link: any EpochLink, urgency: MemoryOwner.Urgency, rate: Double) {
        self.host = host
        self.link = link
        self.urgency = urgency
        // A background transfer leaves a fifth of the link to others.
        budget = BandwidthBudget(bytesPerSecond: rate * 0.8)
    }

    var elapsed: Double { seconds(ContinuousClock.now - start) }

    mutating func send(_ message: EpochMessage, _ priority: LinkPriority) async throws {
        let size: Int
        if case .frame(_, _, let frame) = message { size = frame.count } else { size = 16 }
        if urgency == .background {
            await priority.giveWay(to: host)
            let wait = budget.spend(size, at: elapsed)
            if wait > 0 { try await Task.sleep(for: .seconds(wait)) }
        }
        try await link.send(message)
        bytes += size
    }
}

/// What is known of one replica.
package struct ReplicaStatus: Sendable, Equatable, Codable {
    package var host: String
    /// The last epoch it holds whole.
    package var epoch: UInt64
    package var epochsBehind: UInt64
    /// Bytes that a cut would have to carry now, as far as rounds have seen.
    package var bytesBehind: Int64
    /// Since it last took in an epoch.
    package var secondsBehind: Double
    /// The rate of the link to it, as far as it was measured.
    package var bytesPerSecond: Double
}

func seconds(_ duration: Duration) -> Double {
    let parts = duration.components
    return Double(parts.seconds) + Double(parts.attoseconds) / 1e18
}
