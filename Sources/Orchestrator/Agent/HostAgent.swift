import Isolation
import Logging

/// One host's agent: it owns the SMIs whose records name this host, and nothing else changes them here.
///
/// Each SMI has at most one activity at a time (launch, hand-off out or in, stop, …). Requests that would begin a
/// second one are refused or, where they must follow the first (a session, an SMI that comes back), wait for its end.
package actor HostAgent {
    /// What an SMI is busy with.
    package enum Activity: String, Sendable {
        case launching
        case leaving
        case arriving
        case stopping
        case removing
        case adopting
    }

    /// What the agent works with.
    package struct Surroundings: Sendable {
        package var host: HostRecord
        package var sandboxes: any SandboxHosting
        package var images: any BaseImages
        package var store: any ClusterStore
        package var peers: any PeerCalls
        package var routes: any SMIRoutes
        package var sessions: any SessionGate
        package var events: EventLog
        /// Memory and its replicas; nil where CRIU's images carry all memory, as in tests of the logic.
        package var memory: (any MemoryKeeping)?
        package var logger: Logger

        /// Everything an agent needs from its host and cluster.
        package init(
            host: HostRecord,
            sandboxes: any SandboxHosting,
            images: any BaseImages,
            store: any ClusterStore,
            peers: any PeerCalls,
            routes: any SMIRoutes,
            sessions: any SessionGate,
            events: EventLog,
            memory: (any MemoryKeeping)? = nil,
            logger: Logger
        ) {
            self.host = host
            self.sandboxes = sandboxes
            self.images = images
            self.store = store
            self.peers = peers
            self.routes = routes
            self.sessions = sessions
            self.events = events
            self.memory = memory
            self.logger = logger
        }
    }

    nonisolated let around: Surroundings
    private var activities: [String: Activity] = [:]
    private var waiters: [String: [CheckedContinuation<Void, Never>]] = [:]
    private var watches: [String: Task<Void, Never>] = [:]
    /// SMIs that run here, as committed: user to generation.
    private(set) var running: [String: Int] = [:]
    /// Connections to smi-init that are being made: a freeze waits for them.
    var connecting: [String: Int] = [:]
    var connectWaiters: [String: [CheckedContinuation<Void, Never>]] = [:]
    /// Work that outlives the request that began it, such as the end of a hand-off.
    private var background: [Int: Task<Void, Never>] = [:]
    private var nextBackground = 0

    /// An agent that has done nothing yet.
    package init(_ surroundings: Surroundings) {
        self.around = surroundings
    }

    nonisolated var host: String { around.host.name }

    // MARK: - One activity at a time

    /// Begins an activity; refused while another one is under way.
    func begin(_ user: String, _ activity: Activity) throws {
        if let current = activities[user] { throw Self.busy(user, current) }
        activities[user] = activity
    }

    /// Waits, at most `limit`, until an SMI has no activity, then begins one.
    func beginWhenSettled(_ user: String, _ activity: Activity, limit: Duration) async throws {
        let deadline = ContinuousClock.now + limit
        while let current = activities[user] {
            guard ContinuousClock.now < deadline else { throw Self.busy(user, current) }
            try await settled(user, until: deadline)
        }
        activities[user] = activity
    }

    /// Ends an activity and lets those go on who wait for it.
    func end(_ user: String) {
        activities[user] = nil
        for waiter in waiters.removeValue(forKey: user) ?? [] { waiter.resume() }
    }

    /// What an SMI is busy with.
    func activity(_ user: String) -> Activity? {
        activities[user]
    }

    /// Returns once the present activity has ended, or throws at the deadline.
    func settled(_ user: String, until deadline: ContinuousClock.Instant) async throws {
        guard let current = activities[user] else { return }
        // The waiter is woken by `end`; at the deadline it is woken too and finds the activity still there.
        let alarm = Task { [weak self] in
            try? await Task.sleep(until: deadline)
            await self?.wake(user)
        }
        await withCheckedContinuation { continuation in
            waiters[user, default: []].append(continuation)
        }
        alarm.cancel()
        if activities[user] != nil, ContinuousClock.now >= deadline { throw Self.busy(user, current) }
    }

    private func wake(_ user: String) {
        guard !Task.isCancelled else { return }
        for waiter in waiters.removeValue(forKey: user) ?? [] { waiter.resume() }
    }

    private static func busy(_ user: String, _ activity: Activity) -> OrchestratorError {
        switch activity {
        case .leaving, .arriving:
            OrchestratorError(
                .handoffUnderWay,
                cause: "a hand-off of \(user) is under way",
                remedy: "wait for it to end; `smirun events \(user)` shows where it is"
            )
        default:
            OrchestratorError(
                .notRunning,
                cause: "\(user) is \(activity.rawValue)",
                remedy: "try again when that has ended"
            )
        }
    }

    // MARK: - What runs here

    /// Notes that an SMI runs here and watches its init.
    func nowRunning(_ user: String, generation: Int) {
        running[user] = generation
        watches[user]?.cancel()
        let sandboxes = around.sandboxes
        watches[user] = Task { [weak self] in
            guard (try? await sandboxes.waitForExit(user)) != nil, !Task.isCancelled else { return }
            await self?.initEnded(user, generation: generation)
        }
    }

    /// Notes that an SMI does not run here any more.
    func notRunning(_ user: String) {
        running[user] = nil
        watches.removeValue(forKey: user)?.cancel()
    }

    /// A sandbox's init ended by itself: the SMI is stopped, its files are kept.
    private func initEnded(_ user: String, generation: Int) async {
        guard running[user] == generation, activities[user] == nil else { return }
        activities[user] = .stopping
        defer { end(user) }
        notRunning(user)
        around.logger.warning("init ended", metadata: ["user": "\(user)", "host": "\(host)"])
        do {
            try await around.sandboxes.stop(user)
            try await markStopped(user)
            await around.memory?.forget(user)
        } catch {
            around.logger.error("after init's end", metadata: ["user": "\(user)", "error": "\(error)"])
        }
        around.events.note("ended", user: user)
    }

    /// Keeps work going that nobody waits for; `drain` waits for all of it.
    func inBackground(_ work: @escaping @Sendable () async -> Void) {
        let id = nextBackground
        nextBackground += 1
        background[id] = Task { [weak self] in
            await work()
            await self?.forget(id)
        }
    }

    private func forget(_ id: Int) {
        background[id] = nil
    }

    /// Whether an SMI runs here or is on its way in.
    package func isHere(_ user: String) -> Bool {
        if running[user] != nil { return true }
        switch activities[user] {
        case .launching, .arriving, .adopting: return true
        case .leaving, .stopping, .removing, nil: return false
        }
    }

    /// Ends the watches; SMIs run on without their agent.
    package func close() {
        for watch in watches.values { watch.cancel() }
        watches = [:]
    }
}

/// The base images of a host.
package protocol BaseImages: Sendable {
    /// The digest of an image given by name or digest.
    func resolve(_ nameOrDigest: String) async throws -> String
    /// Whether the image is here.
    func has(_ digest: String) async -> Bool
}

/// Keeps the routes to SMIs that live on other hosts.
package protocol SMIRoutes: Sendable {
    /// From now on the SMI is reached through that host.
    func route(_ address: SandboxAddress, via host: HostRecord) async
    /// Nobody has the SMI any more.
    func drop(_ address: SandboxAddress) async
}

/// The sessions' connections into the sandboxes of this host.
package protocol SessionGate: Sendable {
    /// Ends every connection to the SMI's init; the clients dial again.
    func closeAll(_ spec: SandboxSpec) async
}
