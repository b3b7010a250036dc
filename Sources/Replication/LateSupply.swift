import BackingStore
import LinuxSystem
import Logging

/// Brings the pages that a cut has left from the frozen processes to the host where they run on.
///
/// They are the epoch after the cut's: the state at the freeze. Until the other host holds all of it, the frozen copy is the
/// only whole one. A link that breaks is opened again; the other side then says what it lacks.
package actor LateSupply {
    /// How it ended.
    package enum End: Sendable, Equatable {
        /// The destination holds everything.
        case whole
        /// The SMI has ended there, or moved on.
        case gone
        /// The destination has given the SMI back: it goes on from the frozen copy.
        case returned
        /// It was told to stop.
        case abandoned
    }

    /// What a supply works with.
    package struct Surroundings: Sendable {
        package var user: String
        /// The generation that the destination has made, or will make.
        package var generation: UInt64
        package var image: String
        package var host: String
        package var rates: LinkRates
        package var priority: LinkPriority
        /// Opens a stream to the destination.
        package var open: @Sendable () async throws -> any EpochLink
        /// What the cluster's store says of the SMI once the destination has it: nil to go on.
        package var verdict: @Sendable () async -> End?
        package var logger: Logger

        /// Everything a supply needs.
        package init(
            user: String,
            generation: UInt64,
            image: String,
            host: String,
            rates: LinkRates,
            priority: LinkPriority,
            open: @escaping @Sendable () async throws -> any EpochLink,
            verdict: @escaping @Sendable () async -> End?,
            logger: Logger
        ) {
            self.user = user
            self.generation = generation
            self.image = image
            self.host = host
            self.rates = rates
            self.priority = priority
            self.open = open
            self.verdict = verdict
            self.logger = logger
        }
    }

    /// Between two looks at what the store says, and two attempts to connect.
    private static let pause = Duration.milliseconds(500)

    private let around: Surroundings
    private let pages: FrozenPages
    private var order: LateOrder
    private var window = LateWindow(bytesPerSecond: LinkRates.unmeasured)
    private var firstLink: (any EpochLink)?
    /// The destination runs the SMI: pages that nobody waits for may go too.
    private var isOpen = false
    private var task: Task<End, Never>?
    private var signal: AsyncStream<Void>.Continuation?
    /// Where the files here are a replica afterwards.
    private let directory: EpochDirectory?

    /// A supply of `late` pages over a stream on which the cut has just been sent, or over new ones.
    ///
    /// Without a stream the destination says what it lacks. With a `directory` the files there end at the epoch that the
    /// destination then has; else at the cut's.
    package init(
        _ around: Surroundings,
        pages: FrozenPages,
        late: [Int32: [Range<UInt64>]] = [:],
        hot: [Int32: [Range<UInt64>]] = [:],
        over link: (any EpochLink)? = nil,
        keeping directory: EpochDirectory? = nil
    ) {
        self.around = around
        self.pages = pages
        order = LateOrder(late, hot: hot)
        firstLink = link
        self.directory = directory
    }

    /// Begins to answer for pages that are waited for; all others wait for `push`.
    package func start() {
        guard task == nil else { return }
        task = Task { await run() }
    }

    /// The destination runs the SMI: everything may go.
    package func push() {
        isOpen = true
        signal?.yield()
    }

    /// Waits for the end.
    package func finished() async -> End {
        await task?.value ?? .abandoned
    }

    /// Ends it where the SMI goes on here after all: the files are again at the epoch of the cut.
    package func abandon() async {
        task?.cancel()
        _ = await task?.value
    }

    private func run() async -> End {
        await around.priority.beginCut(to: around.host)
        let end = await untilEnd()
        await around.priority.endCut(to: around.host)
        let (pages, directory) = (pages, directory)
        do {
            try await offload {
                guard end == .whole, let directory else { return try pages.rollback() }
                try pages.commit()
                try directory.note(epoch: pages.base + 1)
            }
        } catch {
            // As a replica they are then brought up to date from an earlier epoch, or whole.
            around.logger.warning(
                "backing files not settled",
                metadata: ["user": "\(around.user)", "error": "\(error)"]
            )
        }
        return end
    }

    private func untilEnd() async -> End {
        while !Task.isCancelled {
            var link: (any EpochLink)?
            do {
                let current = try await connect()
                link = current
                let end = try await serve(current)
                current.close()
                return end
            } catch {
                link?.close()
                guard !Task.isCancelled else { break }
                around.logger.notice(
                    "late pages wait",
                    metadata: ["user": "\(around.user)", "destination": "\(around.host)", "error": "\(error)"]
                )
            }
            if isOpen, let end = await around.verdict() { return end }
            try? await Task.sleep(for: Self.pause)
        }
        return .abandoned
    }

    /// The stream of the cut, or a new one on which the destination says what it lacks.
    private func connect() async throws -> any EpochLink {
        window = LateWindow(bytesPerSecond: await around.rates.rate(to: around.host))
        if let link = firstLink {
            firstLink = nil
            return link
        }
        let link = try await around.open()
        do {
            try await link.send(
                .hello(user: around.user, generation: around.generation, image: around.image)
            )
            var lacking: [Int32: [Range<UInt64>]] = [:]
            while true {
                switch try await link.next() {
                case .late(let process, let pages): lacking[process] = pages
                case .welcome(let epoch) where epoch == pages.base || epoch == pages.base + 1:
                    order = LateOrder(lacking)
                    return link
                default: throw silent
                }
            }
        } catch {
            link.close()
            throw error
        }
    }

    /// Sends and listens until the destination is whole, or the store says that it is over.
    ///
    /// On the link's thread: a process waits for each page that is asked for.
    private func serve(_ link: any EpochLink) async throws -> End {
        try await withTaskExecutorPreference(link.thread) {
            try await withThrowingTaskGroup(of: End?.self) { group in
                group.addTask { try await self.listen(link) }
                group.addTask {
                    try await self.send(link)
                    return nil
                }
                group.addTask { await self.watch() }
                defer { group.cancelAll() }
                while let end = try await group.next() {
                    if let end { return end }
                }
                throw silent
            }
        }
    }

    private func watch() async -> End? {
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.pause)
            if isOpen, let end = await around.verdict() { return end }
        }
        return nil
    }

    private func listen(_ link: any EpochLink) async throws -> End {
        while let message = try await link.next() {
            switch message {
            case .wanted(let process, let pages): order.want(process, pages)
            case .took: window.took(at: MemoryFlush.monotonicSeconds())
            case .whole(let epoch) where epoch > pages.base: return .whole
            case .whole: continue
            case .behind(_, let cause):
                throw ReplicaError(cause: cause, remedy: "look at the log of host \(around.host)'s daemon")
            default: throw silent
            }
            signal?.yield()
        }
        throw silent
    }

    private func send(_ link: any EpochLink) async throws {
        let epoch = pages.base + 1
        let (signals, signal) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        self.signal = signal
        signal.yield()
        try await link.send(.begin(epoch: epoch, quick: true))
        var isEnded = false
        for await _ in signals {
            while let (process, ranges) = next() {
                let bytes = try pages.frame(of: process, pages: ranges)
                window.sent(bytes.count, at: MemoryFlush.monotonicSeconds())
                try await link.send(.frame(process: process, parent: nil, bytes: bytes))
            }
            if isOpen, order.isEmpty, !isEnded {
                isEnded = true
                try await link.send(.end(epoch: epoch, processes: pages.processes))
            }
        }
    }

    private func next() -> (process: Int32, pages: [Range<UInt64>])? {
        if let wanted = order.nextWanted(limit: ProcessMemoryReader.batch) { return wanted }
        guard isOpen, window.hasRoom else { return nil }
        return order.nextOther(limit: window.framePages)
    }

    private var silent: ReplicaError {
        ReplicaError(
            cause: "host \(around.host) ended the stream of late pages",
            remedy: "look at its daemon's log; it is connected again by itself"
        )
    }
}
