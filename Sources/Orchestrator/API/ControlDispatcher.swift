import Isolation
import Mobility

/// Answers control requests: those of this host's SMIs by the agent, others by the daemon of the host that owns them.
package struct ControlDispatcher: Sendable {
    let agent: HostAgent
    let placement: any ReplicaPlacement
    let roaming: RoamingService
    let makeToken: @Sendable () async throws -> String

    /// A dispatcher for one agent; `makeToken` makes tokens for hosts that join.
    package init(
        agent: HostAgent,
        placement: any ReplicaPlacement,
        roaming: RoamingService,
        makeToken: @escaping @Sendable () async throws -> String
    ) {
        self.agent = agent
        self.placement = placement
        self.roaming = roaming
        self.makeToken = makeToken
    }

    /// Answers one request.
    ///
    /// - Parameters:
    ///   - method: What is asked.
    ///   - json: The request as JSON.
    ///   - forwarded: Set where a peer sent the request: it is then answered here and not forwarded again.
    /// - Returns: The reply as JSON.
    /// - Throws: `OrchestratorError` where the request is refused or fails.
    package func answer(
        _ method: ControlMethod,
        _ json: [UInt8],
        forwarded: Bool = false
    ) async throws -> [UInt8] {
        switch method {
        case .ready: return try encode(ReadyReply(host: agent.host, pid: currentProcess()))
        case .token: return try encode(await makeToken())
        case .list: return try encode(await agent.list())
        case .hosts: return try encode(await agent.hosts())
        case .accessPoints: return try encode(await agent.accessPoints())
        case .importAccessPoints:
            try await agent.importAccessPoints(decode([AccessPointView].self, json))
            return try encode(Nothing())
        case .imageInUse:
            return try encode(await agent.users(ofImage: decode(ImageRequest.self, json).digest))
        case .launch: return try await launch(json, forwarded: forwarded)
        case .inspect, .processes, .doctor, .stop, .remove, .addReplica, .removeReplica, .replicas:
            return try await aboutUser(method, json, forwarded: forwarded)
        case .roam: return try encode(await roaming.roam(decode(RoamRequest.self, json)))
        case .roamingEvents: return try encode(roaming.take(decode([RoamingEvent].self, json)))
        case .roamingCounts: return try encode(roaming.counts)
        case .replicationFigures:
            return try encode(await placement.figures(of: decode(UserRequest.self, json).user))
        case .placeReplicas:
            let plan = try decode(ReplicaPlan.self, json)
            await placement.place(user: plan.user, plan: plan)
            return try encode(Nothing())
        case .events, .handoff:
            throw OrchestratorError(
                .badArgument,
                cause: "\(method.rawValue) answers with a stream",
                remedy: "use the streaming call"
            )
        }
    }

    private func aboutUser(_ method: ControlMethod, _ json: [UInt8], forwarded: Bool) async throws -> [UInt8] {
        let user = try decode(UserRequest.self, json).user
        return try await atOwner(of: user, method, json, forwarded: forwarded) {
            switch method {
            case .inspect: return try encode(await agent.inspect(user))
            case .processes: return try encode(await agent.processes(user))
            case .doctor: return try encode(await agent.diagnose(user))
            case .replicas: return try encode(await agent.replicas(of: user))
            case .addReplica: try await agent.addReplica(decode(ReplicaRequest.self, json))
            case .removeReplica: try await agent.removeReplica(decode(ReplicaRequest.self, json))
            case .stop: try await agent.stop(user)
            default: try await agent.remove(user, force: decode(RemoveRequest.self, json).force)
            }
            return try encode(Nothing())
        }
    }

    private func launch(_ json: [UInt8], forwarded: Bool) async throws -> [UInt8] {
        let request = try decode(LaunchRequest.self, json)
        let target = try await agent.resolveHost(named: request.host, accessPoint: request.accessPoint)
        if forwarded || target.name == agent.host { return try encode(await agent.launch(request)) }
        return try await forward(.launch, json, to: target)
    }

    /// Runs `local` where this host owns the user's SMI, and asks the owner's daemon where another one does.
    private func atOwner(
        of user: String,
        _ method: ControlMethod,
        _ json: [UInt8],
        forwarded: Bool,
        local: () async throws -> [UInt8]
    ) async throws -> [UInt8] {
        guard let (record, _) = try await agent.around.store.record(of: user) else { throw HostAgent.unknown(user) }
        if forwarded || record.host == agent.host { return try await local() }
        return try await forward(method, json, to: owner(of: record))
    }

    private func owner(of record: SMIRecord) async throws -> HostRecord {
        guard let entry = try await agent.around.store.get(HostRecord.key(record.host)) else {
            throw OrchestratorError(
                .hostUnknown,
                cause: "\(record.user) is on \(record.host), which is not in this cluster any more",
                remedy: "let that host join again"
            )
        }
        return try decode(HostRecord.self, entry.value)
    }

    private func forward(_ method: ControlMethod, _ json: [UInt8], to host: HostRecord) async throws -> [UInt8] {
        try await agent.reach(host)
        return try await agent.around.peers.call(method, json, at: host, timeout: .seconds(60))
    }

    /// Answers one request with any number of documents.
    package func stream(
        _ method: ControlMethod,
        _ json: [UInt8],
        forwarded: Bool = false,
        send: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws {
        switch method {
        case .events: try await events(json, send: send)
        case .handoff: try await handOff(json, forwarded: forwarded, send: send)
        default: try await send(answer(method, json, forwarded: forwarded))
        }
    }

    /// Moves an SMI; the documents are its steps and, last, the report.
    private func handOff(
        _ json: [UInt8],
        forwarded: Bool,
        send: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws {
        let request = try decode(HandoffRequest.self, json)
        guard let (record, _) = try await agent.around.store.record(of: request.user) else {
            throw HostAgent.unknown(request.user)
        }
        guard forwarded || record.host == agent.host else {
            let owner = try await owner(of: record)
            try await agent.reach(owner)
            return try await agent.around.peers.stream(.handoff, json, at: owner, send)
        }
        let report = try await agent.handOff(request) { step in
            // A watcher that went away does not stop a hand-off.
            if let bytes = try? encode(step) { try? await send(bytes) }
        }
        try await send(encode(HandoffProgress(report: report)))
    }

    /// The events so far, oldest first, then, where asked for, those to come.
    private func events(_ json: [UInt8], send: ([UInt8]) async throws -> Void) async throws {
        let request = try decode(EventsRequest.self, json)
        let store = agent.around.store
        if !request.follow {
            for entry in try await store.list(prefix: EventRecord.prefix) {
                try await deliver(entry.value, user: request.user, send)
            }
            return
        }
        for try await change in store.watch(prefix: EventRecord.prefix) {
            switch change {
            case .snapshot(let entries, _):
                for entry in entries { try await deliver(entry.value, user: request.user, send) }
            case .put(let entry): try await deliver(entry.value, user: request.user, send)
            case .deleted: break
            }
        }
    }

    private func deliver(
        _ bytes: [UInt8],
        user: String?,
        _ send: ([UInt8]) async throws -> Void
    ) async throws {
        if let user, try decode(EventRecord.self, bytes).user != user { return }
        try await send(bytes)
    }
}

/// The answer to `ready`.
package struct ReadyReply: Codable, Sendable {
    package var host: String
    package var pid: Int32
}
