import Isolation
import Logging
import Mobility

/// What replicating one SMI costs, as its owner measured it.
package struct ReplicationFigures: Codable, Sendable, Equatable {
    /// Size of the whole SMI as it would be sent to a host that has nothing of it.
    package var bytes: Int64
    /// Bytes per second that the SMI dirties; nil where not measured.
    package var dirtyBytesPerSecond: Double?
    /// Bytes per second that all its replicas together may use on the owner's link; nil where not measured.
    package var linkBytesPerSecond: Double?
    /// Hosts about which more is known.
    package var hosts: [String: ReplicaPlanInput.Host]

    /// The figures of one SMI.
    package init(
        bytes: Int64,
        dirtyBytesPerSecond: Double? = nil,
        linkBytesPerSecond: Double? = nil,
        hosts: [String: ReplicaPlanInput.Host] = [:]
    ) {
        self.bytes = bytes
        self.dirtyBytesPerSecond = dirtyBytesPerSecond
        self.linkBytesPerSecond = linkBytesPerSecond
        self.hosts = hosts
    }
}

/// Carries out replica plans on the host that owns the SMI.
package protocol ReplicaPlacement: Sendable {
    /// What replicating an SMI of this host costs now; nil where it does not run here.
    func figures(of user: String) async -> ReplicationFigures?
    /// Takes a plan, which replaces the one before; returns without waiting for replicas.
    func place(user: String, plan: ReplicaPlan) async
}

/// Keeps each SMI's plan in the cluster store, where `smirun inspect` finds it, and has the replicas made that it asks for.
package struct PlanKeeper: ReplicaPlacement {
    private let host: String
    private let sandboxes: any SandboxHosting
    private let store: any ClusterStore
    private let memory: any MemoryKeeping
    private let logger: Logger

    /// A keeper for the SMIs of one host.
    package init(
        host: String,
        sandboxes: any SandboxHosting,
        store: any ClusterStore,
        memory: any MemoryKeeping,
        logger: Logger
    ) {
        self.host = host
        self.sandboxes = sandboxes
        self.store = store
        self.memory = memory
        self.logger = logger
    }

    /// The memory that its processes have resident, and what each replica lacks of it.
    package func figures(of user: String) async -> ReplicationFigures? {
        guard let processes = try? await sandboxes.processes(user), !processes.isEmpty else { return nil }
        var figures = ReplicationFigures(bytes: processes.reduce(0) { $0 + $1.rss })
        for status in await memory.status(user) where status.epoch > 0 {
            figures.hosts[status.host] = ReplicaPlanInput.Host(
                bytesPerSecond: status.bytesPerSecond,
                behindBytes: status.bytesBehind
            )
        }
        return figures
    }

    /// Takes a plan, which replaces the one before; returns without waiting for replicas.
    package func place(user: String, plan: ReplicaPlan) async {
        do {
            try await store.write(ReplicaPlan.key(user), plan, expect: .any)
            let later = plan.entries.compactMap { $0.freshness == .live ? $0.startLiveIn : nil }.filter { $0 > 1 }
            try await makeReplicas(of: plan, user: user, startingWithin: 1)
            // Live rounds of the others begin when their deadline asks for it, if the plan is still the same then.
            for delay in Set(later) {
                Task {
                    try await Task.sleep(for: .seconds(delay))
                    guard let entry = try await store.get(ReplicaPlan.key(user)),
                        try decode(ReplicaPlan.self, entry.value).time == plan.time
                    else { return }
                    try await makeReplicas(of: plan, user: user, startingWithin: delay)
                }
            }
        } catch {
            logger.warning("plan not kept", metadata: ["user": "\(user)", "error": "\(error)"])
        }
    }

    /// Notes the replicas that a plan wants by a time, and drops predicted ones that it does not want.
    private func makeReplicas(of plan: ReplicaPlan, user: String, startingWithin seconds: Double) async throws {
        let known = try await store.records(ReplicaRecord.self, prefix: ReplicaRecord.prefix(user)).map(\.record)
        let planned = Set(plan.entries.map(\.host))
        for record in known where record.reason == .predicted && !planned.contains(record.host) {
            _ = try await store.delete(ReplicaRecord.key(user, record.host), expect: .any)
        }
        for entry in plan.entries where entry.freshness == .live && entry.host != host {
            guard (entry.startLiveIn ?? 0) <= seconds, !known.contains(where: { $0.host == entry.host }) else {
                continue
            }
            let record = ReplicaRecord(user: user, host: entry.host, reason: .predicted, since: secondsSince1970())
            try await store.write(ReplicaRecord.key(user, entry.host), record, expect: .any)
        }
        await memory.replicasChanged(user)
    }
}

extension ReplicaPlan {
    /// Key of a user's plan in the store.
    package static func key(_ user: String) -> String { prefix + user }

    /// Prefix of all these keys.
    package static let prefix = "plan/"
}
