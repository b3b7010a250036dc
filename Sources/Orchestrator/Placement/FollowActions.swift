import Mobility

/// What following users asks of the cluster.
package protocol FollowActions: Sendable {
    /// Moves an SMI from its owner to another host.
    func handOff(_ user: String, from owner: String, to host: String) async throws -> HandoffReport
    /// What its owner knows of the cost of replicating an SMI; nil where it does not run there.
    func figures(of user: String, at owner: String) async throws -> ReplicationFigures?
    /// Gives the owner the SMI's replica plan.
    func place(_ plan: ReplicaPlan, at owner: String) async throws
}

/// The actions in a cluster: by this host's agent where it owns the SMI, else by the owner's daemon.
struct ClusterFollowActions: FollowActions {
    let agent: HostAgent
    let placement: any ReplicaPlacement

    func handOff(_ user: String, from owner: String, to host: String) async throws -> HandoffReport {
        let request = HandoffRequest(user: user, to: host)
        if owner == agent.host { return try await agent.handOff(request) { _ in } }
        let first = FirstResult<HandoffReport>()
        try await agent.around.peers.stream(.handoff, encode(request), at: record(owner)) { document in
            if let report = try decode(HandoffProgress.self, document).report { first.resolve(.success(report)) }
        }
        first.resolve(
            .failure(
                OrchestratorError(
                    .handoffFailed,
                    cause: "\(owner) did not say how the hand-off of \(user) ended",
                    remedy: "`smirun events \(user)` shows where it is"
                )
            )
        )
        return try await first.value()
    }

    func figures(of user: String, at owner: String) async throws -> ReplicationFigures? {
        if owner == agent.host { return await placement.figures(of: user) }
        let json = try await call(.replicationFigures, encode(UserRequest(user: user)), at: owner)
        return try decode(ReplicationFigures?.self, json)
    }

    func place(_ plan: ReplicaPlan, at owner: String) async throws {
        if owner == agent.host { return await placement.place(user: plan.user, plan: plan) }
        _ = try await call(.placeReplicas, encode(plan), at: owner)
    }

    private func call(_ method: ControlMethod, _ json: [UInt8], at owner: String) async throws -> [UInt8] {
        try await agent.around.peers.call(method, json, at: record(owner), timeout: .seconds(5))
    }

    private func record(_ name: String) async throws -> HostRecord {
        guard let entry = try await agent.around.store.get(HostRecord.key(name)) else {
            throw OrchestratorError(
                .hostUnknown,
                cause: "there is no host \(name) in this cluster",
                remedy: "`smirun host ls` shows those that are there"
            )
        }
        return try decode(HostRecord.self, entry.value)
    }
}
