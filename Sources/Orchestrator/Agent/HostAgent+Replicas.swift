import Isolation
import Replication

extension HostAgent {
    /// Names a host that shall hold a replica of an SMI of this host.
    package func addReplica(_ request: ReplicaRequest) async throws {
        let record = try await ownedRecord(request.user)
        let replica = try await resolveHost(named: request.host, accessPoint: nil)
        guard replica.name != record.host else {
            throw OrchestratorError(
                .badArgument,
                cause: "\(request.user) runs on \(replica.name)",
                remedy: "name another host; `smirun host ls` shows them"
            )
        }
        try await around.store.write(
            ReplicaRecord.key(request.user, replica.name),
            ReplicaRecord(user: request.user, host: replica.name, reason: .named, since: secondsSince1970()),
            expect: .any
        )
        await around.memory?.replicasChanged(request.user)
        around.events.note("replica-added", user: request.user, ["replica": replica.name])
    }

    /// Gives up the replica of an SMI of this host; its files there are deleted.
    package func removeReplica(_ request: ReplicaRequest) async throws {
        _ = try await ownedRecord(request.user)
        let key = ReplicaRecord.key(request.user, request.host)
        guard try await around.store.get(key) != nil else {
            throw OrchestratorError(
                .hostUnknown,
                cause: "\(request.host) holds no replica of \(request.user)",
                remedy: "`smirun replica ls \(request.user)` shows those that there are"
            )
        }
        _ = try await around.store.delete(key, expect: .any)
        await around.memory?.replicasChanged(request.user)
        around.events.note("replica-removed", user: request.user, ["replica": request.host])
    }

    /// The replicas of an SMI of this host, and how far they are.
    package func replicas(of user: String) async throws -> [ReplicaView] {
        let states = await around.memory?.status(user) ?? []
        return try await around.store.records(ReplicaRecord.self, prefix: ReplicaRecord.prefix(user)).map { record, _ in
            let state = states.first { $0.host == record.host }
            return ReplicaView(
                user: user,
                host: record.host,
                reason: record.reason.rawValue,
                connected: state != nil,
                epoch: state?.epoch ?? 0,
                epochsBehind: state?.epochsBehind ?? 0,
                bytesBehind: state?.bytesBehind ?? 0,
                secondsBehind: state?.secondsBehind
            )
        }
    }
}
