import Isolation
import Logging
import Mobility

/// What replicating one SMI costs, as its owner measured it.
package struct ReplicationFigures: Codable, Sendable, Equatable {
    /// What is known of a host that holds a replica, or may.
    package struct Host: Codable, Sendable, Equatable {
        /// Bytes per second that this SMI's replication may use on the way there.
        package var bytesPerSecond: Double
        /// Bytes that a replica may take there; nil: no limit.
        package var freeBytes: Int64?
        /// Bytes still to be sent until the replica there is as fresh as the last epoch; nil where there is none.
        package var behindBytes: Int64?

        /// Figures of one host.
        package init(bytesPerSecond: Double, freeBytes: Int64? = nil, behindBytes: Int64? = nil) {
            self.bytesPerSecond = bytesPerSecond
            self.freeBytes = freeBytes
            self.behindBytes = behindBytes
        }
    }

    /// Size of the whole SMI as it would be sent to a host that has nothing of it.
    package var bytes: Int64
    /// Bytes per second that the SMI dirties; nil where not measured.
    package var dirtyBytesPerSecond: Double?
    /// Bytes per second that all its replicas together may use on the owner's link; nil where not measured.
    package var linkBytesPerSecond: Double?
    /// Hosts about which more is known.
    package var hosts: [String: Host]

    /// The figures of one SMI.
    package init(
        bytes: Int64,
        dirtyBytesPerSecond: Double? = nil,
        linkBytesPerSecond: Double? = nil,
        hosts: [String: Host] = [:]
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

/// Keeps each SMI's plan in the cluster store, where `smirun inspect` and whoever replicates find it.
package struct PlanKeeper: ReplicaPlacement {
    private let sandboxes: any SandboxHosting
    private let store: any ClusterStore
    private let logger: Logger

    /// A keeper for the SMIs of one host.
    package init(sandboxes: any SandboxHosting, store: any ClusterStore, logger: Logger) {
        self.sandboxes = sandboxes
        self.store = store
        self.logger = logger
    }

    /// The memory that its processes have resident: what a hand-off has to carry.
    package func figures(of user: String) async -> ReplicationFigures? {
        guard let processes = try? await sandboxes.processes(user), !processes.isEmpty else { return nil }
        return ReplicationFigures(bytes: processes.reduce(0) { $0 + $1.rss })
    }

    package func place(user: String, plan: ReplicaPlan) async {
        do {
            try await store.write(ReplicaPlan.key(user), plan, expect: .any)
        } catch {
            logger.warning("plan not kept", metadata: ["user": "\(user)", "error": "\(error)"])
        }
    }
}

extension ReplicaPlan {
    /// Key of a user's plan in the store.
    package static func key(_ user: String) -> String { prefix + user }

    /// Prefix of all these keys.
    package static let prefix = "plan/"
}
