import Logging
import NIOCore
import NIOPosix
import Synchronization

/// All event sources of a configuration, as one sequence of roaming records.
///
/// ```swift
/// let sources = try RoamingSources(configuration: configuration.events, accessPoints: map.names, logger: logger)
/// try await sources.run { record in await orchestrator.on(record) }     // until its task is cancelled
/// ```
public final class RoamingSources: Sendable {
    /// Addresses that sources listen on; for ports that were chosen by the system.
    public struct Listening: Sendable, Hashable {
        /// Port of the RADIUS server.
        public var radiusPort: Int?
        /// Port of the HTTP consumer.
        public var httpPort: Int?
    }

    private struct State {
        var directory: RoamingDirectory
        var isChanged = false
        var tally = RoamingTally()
        var listening = Listening()
        var isRunning = false
    }

    let configuration: RoamingSourcesConfiguration
    private let logger: Logger
    private let log: RateLimitedLog
    private let counters = RoamingCounters()
    let intake: EventIntake
    private let notifier: MobilityNotifier
    private let state: Mutex<State>

    /// Checks the configuration; nothing is opened yet.
    ///
    /// `accessPoints` are the names of the map; `runDirectory` is where our ends of hostapd's sockets are made; `tls` sets
    /// up TLS for subscribers with https addresses. Throws `RoamingError` naming the key that cannot be used.
    package init(
        configuration: RoamingSourcesConfiguration,
        accessPoints: some Collection<String> = [String](),
        runDirectory: String = "/run/smirun",
        queueLimit: Int = 16_384,
        tls: HTTPPoster.TLS? = nil,
        logger: Logger
    ) throws(RoamingError) {
        var configuration = configuration
        if configuration.hostapd != nil, configuration.hostapd?.directory == nil {
            configuration.hostapd?.directory = runDirectory
        }
        let log = RateLimitedLog(logger: logger)
        var subscribers: [MobilityNotifier.Subscriber] = []
        for subscriber in configuration.mec?.subscribers ?? [] {
            subscribers.append(try MobilityNotifier.Subscriber(url: subscriber.url, token: subscriber.token))
        }
        _ = try configuration.radiusClients()
        if let listen = configuration.radius?.listen { _ = try ListenAddress(listen, key: "radius.listen") }
        if let listen = configuration.mec?.listen { _ = try ListenAddress(listen, key: "mec.listen") }
        let directory = try configuration.directory(accessPoints: accessPoints)
        self.configuration = configuration
        self.logger = logger
        self.log = log
        self.intake = EventIntake(limit: queueLimit)
        self.notifier = MobilityNotifier(
            subscribers: subscribers,
            poster: HTTPPoster(tls: tls),
            counters: counters,
            log: log
        )
        self.state = Mutex(State(directory: directory))
    }

    /// Opens every source and hands on records until the task is cancelled or a source cannot be opened.
    ///
    /// The sink is called for one record at a time; while it is slow, events wait, and over the limit sources refuse them
    /// in their own ways. Returns on cancellation; throws `RoamingError` where a socket cannot be opened.
    public func run(sink: @escaping @Sendable (RoamingRecord) async -> Void) async throws {
        try await serve { await self.normalize(sink) }
    }

    /// Opens every source and lets `read` empty the queue.
    func serve(_ read: @escaping @Sendable () async -> Void) async throws {
        let isFirst = state.withLock { state in
            defer { state.isRunning = true }
            return !state.isRunning
        }
        guard isFirst else {
            throw RoamingError(
                .configuration,
                cause: "the event sources run already",
                remedy: "make another RoamingSources"
            )
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await read() }
            group.addTask { await self.keepTime() }
            group.addTask { await self.notifier.run() }
            if configuration.radius?.listen != nil { group.addTask { try await self.runRadius() } }
            if configuration.mec?.listen != nil { group.addTask { try await self.runHTTP() } }
            for socket in configuration.hostapd?.sockets ?? [] { group.addTask { await self.follow(socket) } }
            defer { intake.finish() }
            do {
                // The first failure ends all: `waitForAll` would wait for the others first.
                while try await group.next() != nil {}
            } catch {
                group.cancelAll()
                if error is CancellationError { return }
                throw error
            }
        }
    }

    /// Puts a line in, as `smirun roam` does; false where too many events wait.
    public func roam(user: String, ap: String, at time: Double? = nil, kind: RoamingKind = .roam) -> Bool {
        intake.offer(RoamLine(user: user, ap: ap, time: time, kind: kind).event(received: WallClock.now))
    }

    /// Puts an event of another host's sources in; false where too many events wait.
    package func offer(_ event: RoamingEvent) -> Bool {
        intake.offer(event)
    }

    /// Tells the subscribers of a hand-off; never waits.
    public func notify(_ notice: MobilityNotice) {
        notifier.notify(notice)
    }

    /// Replaces the names of the access points, after an import of the map.
    package func update(accessPoints: some Collection<String>) throws(RoamingError) {
        let directory = try configuration.directory(accessPoints: accessPoints)
        state.withLock { state in
            state.directory = directory
            state.isChanged = true
        }
    }

    /// Whether an access point of that name is in the map or the configuration, or need not be by the configuration.
    package func knows(accessPoint name: String) -> Bool {
        if case .known = state.withLock({ $0.directory }).accessPoint([name]) { return true }
        return configuration.roaming?.unknown ?? false
    }

    /// Counts of everything that was taken, dropped and merged; names as in docs/roaming-events.md.
    public var counts: [String: Int] {
        (counters.snapshot + state.withLock { $0.tally }).named
    }

    /// What is listened on now.
    public var listening: Listening { state.withLock { $0.listening } }

    /// Adds the HTTP routes of the consumer to a router of the caller's, which has its own address and its own TLS.
    package func http() -> RoamingHTTP {
        var settings = RoamingHTTP.Settings()
        settings.token = configuration.mec?.token
        if let limit = configuration.mec?.limit { settings.bodyLimit = max(1, limit) }
        return RoamingHTTP(settings: settings, counters: counters, log: log, offer: intake.offer)
    }

    // MARK: tasks

    /// The one reader of the queue.
    private func normalize(_ sink: @Sendable (RoamingRecord) async -> Void) async {
        var normalizer = RoamingNormalizer(
            directory: state.withLock { $0.directory },
            settings: configuration.normalizerSettings
        )
        for await item in intake.items {
            let changed = state.withLock { state -> RoamingDirectory? in
                defer { state.isChanged = false }
                return state.isChanged ? state.directory : nil
            }
            if let changed { normalizer.directory = changed }
            let records: [RoamingRecord]
            switch item {
            case .event(let event): records = normalizer.on(event, now: WallClock.now)
            case .tick(let now): records = normalizer.advance(to: now)
            }
            for record in records { await sink(record) }
            for report in normalizer.takeReports() { tell(report) }
            let tally = normalizer.tally
            state.withLock { $0.tally = tally }
            if Task.isCancelled { return }
        }
    }

    private func tell(_ report: RoamingNormalizer.Report) {
        switch report {
        case .unknownStation(let name):
            log.info("roaming event of a device without a user", ["station": "\(name)"])
        case .unknownAccessPoint(let name):
            log.info("roaming event of an access point that is not in the map", ["ap": "\(name)"])
        }
    }

    /// Ticks as often as the shortest window needs.
    private func keepTime() async {
        let settings = configuration.normalizerSettings
        let shortest = [settings.reorderWindow, settings.stopGrace].filter { $0 > 0 }.min() ?? 1
        let interval = Duration.seconds(min(max(shortest / 8, 0.01), 0.5))
        while !Task.isCancelled {
            try? await Task.sleep(for: interval)
            intake.tick(WallClock.now)
        }
    }

    private func runRadius() async throws {
        let listen = try ListenAddress(configuration.radius?.listen ?? "", key: "radius.listen")
        let server = try await RadiusServer.start(
            listen: listen,
            responder: RadiusResponder(clients: try configuration.radiusClients()),
            counters: counters,
            log: log,
            offer: intake.offer
        )
        state.withLock { $0.listening.radiusPort = server.address?.port }
        await server.runUntilCancelled()
    }

    private func runHTTP() async throws {
        let listen = try ListenAddress(configuration.mec?.listen ?? "", key: "mec.listen")
        try await http().run(listen: listen, logger: logger) { address in
            self.state.withLock { $0.listening.httpPort = address?.port }
        }
    }

    private func follow(_ socket: RoamingSourcesConfiguration.Hostapd.Socket) async {
        let source = HostapdSource(
            path: socket.path,
            accessPoint: socket.ap,
            asksIdentity: configuration.hostapd?.identity ?? true,
            directory: configuration.hostapd?.directory ?? "/run"
        )
        await source.run(counters: counters, log: log, offer: intake.offer)
    }
}
