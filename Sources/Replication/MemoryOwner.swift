import BackingStore
import Glibc
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
        /// The generation of this host's ownership, now: a hand-off that failed has made a new one.
        package var generation: @Sendable () async throws -> UInt64
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
            generation: @escaping @Sendable () async throws -> UInt64,
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

    struct Subscriber {
        let link: any EpochLink
        /// The last epoch that it holds whole.
        var epoch: UInt64
        /// When it answered last.
        var heard: ContinuousClock.Instant
    }

    /// Pages flushed in one round at most, 32 MB, and no more of them than the link carries in a second.
    private static let roundPages = 8192
    /// The same in the background, seconds: a hand-off that is asked for waits for the round under way.
    private static let backgroundSeconds = 0.25

    let around: Surroundings
    let journal: MemoryJournal
    let turns = UserLocks()
    var subscribers: [String: Subscriber] = [:]
    /// Streams that are being opened.
    private var connecting: [String: Task<Void, any Error>] = [:]
    /// A cut was made, and whether it is this host that goes on is not known yet.
    ///
    /// An epoch more, made here, would be of another past than those of the next owner.
    var isLeaving = false
    /// Where a hand-off goes to: its stream is not given up, replica or not.
    private(set) var destination: String?
    private var hasFlushed = false
    private(set) var residual = Residual(pages: 0, wireBytesPerPage: 4096, pagesPerSecond: 0)

    /// An owner of the memory of a directory; `stores` and `epoch` are what this host holds of it already, `shared` says
    /// what the backing files of shared memory are of, `tracked` whose writes have been tracked since that epoch.
    package init(
        _ around: Surroundings,
        directory: String,
        stores: [Int32: PageStore] = [:],
        shared: [Int32: SharedObject] = [:],
        tracked: [AdoptedProcess] = [],
        epoch: UInt64 = 0
    ) throws {
        self.around = around
        let directory = try EpochDirectory(directory)
        let last = max(epoch, directory.epoch)
        journal = MemoryJournal(directory: directory, stores: stores, shared: shared, epoch: last)
        journal.adopt(tracked)
    }

    // MARK: - Replicas

    /// Takes up the replica on a host, if it is not yet.
    ///
    /// A replica serves one stream: who asks while one is being opened gets that one, or else tries again. While the SMI
    /// leaves for a host, nothing is opened to it: what the cut has left is asked for and comes over the cut's stream.
    package func connect(_ host: String, _ open: @escaping @Sendable () async throws -> any EpochLink) async throws {
        while let task = connecting[host] { _ = await task.result }
        guard subscribers[host] == nil, !isLeaving || host != destination else { return }
        let task = Task {
            // Before the task ends, or who waits for it would find it again.
            defer { connecting[host] = nil }
            try await add(host, over: open())
        }
        connecting[host] = task
        try await withTaskCancellationHandler {
            try await task.value
        } onCancel: {
            task.cancel()
        }
    }

    /// Takes up a replica over a new stream; it says which epoch it holds.
    func add(_ host: String, over link: any EpochLink) async throws {
        do {
            let generation = try await around.generation()
            try await link.send(.hello(user: around.user, generation: generation, image: around.image))
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
    ///
    /// `scans`: it looks for what was written since the last such round, or else goes on with what that one has left.
    package func round(scans: Bool = true) async throws -> EpochRound? {
        guard !subscribers.isEmpty else { return nil }
        return try await turns.whileAlone(around.user) {
            guard !isLeaving else { return nil }
            let round = try await flush(scans ? .live : .backlog)
            await deliver(round, .background)
            for host in subscribers.keys { await catchUp(host, .background) }
            return round
        }
    }

    /// Flushes; replicas are not told yet.
    func flush(_ kind: MemoryFlush.Kind) async throws -> EpochRound {
        let processes = kind == .backlog ? ProcessList(still: []) : try await ProcessList(around.processes)
        let rate = await slowest()
        let journal = journal
        let isBackground = kind == .live || kind == .backlog
        let share = isBackground ? EpochTransfer.backgroundShare * Self.backgroundSeconds : 1
        let limit = RoundLimit(pages: Self.roundPages, wireBytes: Int(rate * share))
        let (round, time) = try await offload {
            let start = threadSeconds()
            return (try journal.round(kind, processes, limit: limit, link: rate), threadSeconds() - start)
        }
        residual = round.residual
        if !hasFlushed {
            hasFlushed = true
            around.logger.info(
                "first round",
                metadata: [
                    "user": "\(around.user)", "pages": "\(round.flushedPages + round.deferredPages)",
                    "cpu-ms": "\(Int(time * 1000))",
                ]
            )
        }
        return round
    }

    /// The rate of the slowest link to a replica, bytes a second.
    private func slowest() async -> Double {
        var slowest = Double.infinity
        for host in subscribers.keys { slowest = min(slowest, await around.rates.rate(to: host)) }
        return slowest.isFinite ? slowest : LinkRates.unmeasured
    }

    /// Sends a round to every replica that it builds upon.
    func deliver(_ round: EpochRound, _ urgency: EpochTransfer.Urgency) async {
        for (host, subscriber) in subscribers where subscriber.epoch == round.base {
            await send(.round(round), to: host, subscriber, urgency)
        }
    }

    /// Brings a replica that is behind to the last epoch, from the backing files.
    func catchUp(_ host: String, _ urgency: EpochTransfer.Urgency) async {
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
    private func send(
        _ content: Content,
        to host: String,
        _ subscriber: Subscriber,
        _ urgency: EpochTransfer.Urgency
    ) async {
        let (rates, priority) = (around.rates, around.priority)
        let transfer = await EpochTransfer(to: host, over: subscriber.link, urgency, rates: rates, priority: priority)
        do {
            let answer = try await transfer.run { transfer in
                try await transfer.send(.begin(epoch: content.epoch, quick: false))
                let processes = try await Self.send(content, over: transfer)
                try await transfer.send(.end(epoch: content.epoch, processes: processes))
            }
            try took(answer, to: content.epoch, at: host)
        } catch {
            lost(host, error)
        }
    }

    /// Sends what is in an epoch; returns the processes and shared memory that there are.
    private static func send(_ content: Content, over transfer: EpochTransfer) async throws -> [Int32] {
        switch content {
        case .round(let round):
            for message in round.messages { try await transfer.send(message) }
            return round.processes
        case .changes(let changes, let codec, _):
            var changes = changes
            while true {
                try Task.checkCancellation()
                let now = changes
                let (message, rest) = try await offload { try now.next(codec: codec) }
                guard let message else { return changes.processes }
                changes = rest
                try await transfer.send(message)
            }
        }
    }

    private func took(_ answer: EpochMessage?, to epoch: UInt64, at host: String) throws {
        switch answer {
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

    /// Ends all streams: the SMI does not run here any more.
    ///
    /// The backing files stay, as a replica. Tracking does not end yet: to clear the protection of a memory takes the kernel
    /// milliseconds, in which nobody can read it, as `LateSupply` does.
    package func close() async {
        await turns.acquire(around.user)
        for subscriber in subscribers.values { subscriber.link.close() }
        subscribers = [:]
        let journal = journal
        _ = try? await offload { journal.rest() }
        await turns.release(around.user)
    }

    /// Ends tracking, after `close`: the processes are gone, or another owner is to track them.
    package func endTracking() async {
        let journal = journal
        _ = try? await offload { journal.endTracking() }
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

/// Processor time that this thread has taken.
private func threadSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func seconds(_ duration: Duration) -> Double {
    let parts = duration.components
    return Double(parts.seconds) + Double(parts.attoseconds) / 1e18
}
