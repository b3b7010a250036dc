import LinuxSystem
import Logging
import Mobility

/// Where roaming events go in a cluster: every daemon runs the sources that it is configured with, and all that they say
/// goes to the host that keeps the store, whose daemon alone orders, judges, predicts and decides.
package final class RoamingService: Sendable {
    private let agent: HostAgent
    private let decider: HostRecord
    private let sources: EventSources
    /// Nil where another host decides.
    private let follower: UserFollower?
    private let notices: HandoffNotices?
    private let logger: Logger

    /// The service of one daemon.
    ///
    /// - Throws: `RoamingError` naming the key of the configuration that cannot be used.
    package init(
        configuration: HostConfiguration,
        decider: HostRecord,
        agent: HostAgent,
        placement: any ReplicaPlacement
    ) throws(RoamingError) {
        let around = agent.around
        self.agent = agent
        self.decider = decider
        logger = around.logger
        let sources = try EventSources(
            configuration: configuration.roaming,
            runDirectory: configuration.paths.run,
            logger: around.logger
        )
        self.sources = sources
        if decider.name == agent.host {
            follower = UserFollower(
                UserFollower.Surroundings(
                    store: around.store,
                    actions: ClusterFollowActions(agent: agent, placement: placement),
                    events: around.events,
                    memory: PredictorFile(state: configuration.paths.state, logger: around.logger),
                    logger: around.logger,
                    namesChanged: { sources.update($0) }
                )
            )
        } else {
            follower = nil
        }
        guard configuration.roaming.mec?.subscribers?.isEmpty == false else {
            notices = nil
            return
        }
        let notices = HandoffNotices(store: around.store) { sources.current.notify($0) }
        around.events.observe { notices.note($0) }
        self.notices = notices
    }

    /// Runs the sources, and follows users where this host decides, until the task is cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            if let follower {
                await begin(follower)
                group.addTask { await follower.run() }
            }
            group.addTask { await self.runSources() }
        }
        await notices?.close()
        await follower?.keep()
    }

    private func begin(_ follower: UserFollower) async {
        while !Task.isCancelled {
            do {
                return try await follower.begin()
            } catch {
                logger.warning("following waits for the store", metadata: ["error": "\(error)"])
                try? await Task.sleep(for: .seconds(1))
            }
        }
    }

    /// A source that cannot be opened stops none of the machines: it is told, and tried again.
    private func runSources() async {
        while !Task.isCancelled {
            do {
                if let follower {
                    try await sources.current.run { await follower.on($0) }
                } else {
                    try await sources.current.relay { await self.passOn($0) }
                }
                if Task.isCancelled { return }
                try sources.renew()
            } catch {
                let error = OrchestratorError(wrapping: error)
                logger.error(
                    "roaming events are not heard",
                    metadata: ["cause": "\(error.cause)", "remedy": "\(error.remedy)"]
                )
                try? await Task.sleep(for: .seconds(5))
                try? sources.renew()
            }
        }
    }

    // MARK: - Events of other hosts

    /// Sends events to the host that decides, again until it has taken them: in the meantime the sources hold theirs.
    private func passOn(_ events: [RoamingEvent]) async {
        var rest = events.filter { $0.time.isFinite && $0.received.isFinite }[...]
        var pause = 0.1
        var told = false
        while !rest.isEmpty, !Task.isCancelled {
            do {
                let json = try encode(Array(rest))
                let reply = try await agent.around.peers.call(.roamingEvents, json, at: decider, timeout: .seconds(5))
                rest = rest.dropFirst(try decode(Int.self, reply))
                if rest.isEmpty { return }
            } catch {
                if !told {
                    let metadata: Logger.Metadata = ["decider": "\(decider.name)", "error": "\(error)"]
                    logger.warning("roaming events wait for the host that decides", metadata: metadata)
                }
                told = true
            }
            try? await Task.sleep(for: .seconds(pause))
            pause = min(pause * 2, 2)
        }
    }

    /// Takes events of another host's sources; returns how many there was room for.
    package func take(_ events: [RoamingEvent]) throws -> Int {
        guard follower != nil else {
            throw OrchestratorError(
                .badArgument,
                cause: "\(agent.host) does not decide about roaming",
                remedy: "restart the daemon that sent the events: \(decider.name) decides"
            )
        }
        return events.firstIndex { !sources.current.offer($0) } ?? events.count
    }

    /// How often each thing happened to what this host's event sources took in, since the daemon started.
    package var counts: [String: Int] { sources.current.counts }

    // MARK: - smirun roam

    /// Takes an association that a command tells of, or passes it on to the host that decides.
    package func roam(_ request: RoamRequest) async throws -> RoamReply {
        guard let follower else {
            let json = try encode(request)
            let reply = try await agent.around.peers.call(.roam, json, at: decider, timeout: .seconds(10))
            return try decode(RoamReply.self, reply)
        }
        let record = try await agent.around.store.record(of: request.user)?.record
        if let record {
            await follower.note(record)
        } else if !request.isReplayed {
            throw HostAgent.unknown(request.user)
        }
        try await check(request, follower)
        guard sources.current.roam(user: request.user, ap: request.ap, at: request.at, kind: request.kind) else {
            throw OrchestratorError(
                .init(rawValue: "overloaded"),
                cause: "too many roaming events wait",
                remedy: "try again; play traces back more slowly"
            )
        }
        return RoamReply(hasMachine: record != nil)
    }

    private func check(_ request: RoamRequest, _ follower: UserFollower) async throws {
        guard isValidUserName(request.user) else {
            throw OrchestratorError(
                .badArgument,
                cause: "'\(request.user)' is not a user name",
                remedy: "use a letter, then at most 31 letters, digits and hyphens, all lower case"
            )
        }
        if let at = request.at, !at.isFinite || at > secondsSince1970() + 2 {
            throw OrchestratorError(
                .badArgument,
                cause: "the time \(at) is yet to come",
                remedy: "give the time of something that has happened, in seconds since 1970, or none"
            )
        }
        guard !sources.current.knows(accessPoint: request.ap) else { return }
        // It may have been imported this very moment.
        guard let entry = try await agent.around.store.get(AccessPointRecord.key(request.ap)) else {
            throw OrchestratorError(
                .accessPointUnknown,
                cause: "there is no access point \(request.ap)",
                remedy: "`smirun ap ls` shows those that are known; `smirun ap import` adds some"
            )
        }
        await follower.note(try decode(AccessPointRecord.self, entry.value))
    }
}
