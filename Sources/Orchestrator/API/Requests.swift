import Mobility

/// The control methods that the command line calls on its daemon, and daemons on each other.
///
/// Requests and replies are JSON: what `-o json` prints is what the daemon answered.
package enum ControlMethod: String, Sendable, CaseIterable {
    case launch
    case handoff
    case list
    case inspect
    case processes
    case stop
    case remove
    case hosts
    case accessPoints = "access-points"
    case importAccessPoints = "import-access-points"
    case events
    case doctor
    case imageInUse = "image-in-use"
    case roam
    case roamingEvents = "roaming-events"
    case roamingCounts = "roaming-counts"
    case replicationFigures = "replication-figures"
    case placeReplicas = "place-replicas"
    case addReplica = "add-replica"
    case removeReplica = "remove-replica"
    case replicas
    case ready
    case token
}

/// `add-replica`, `remove-replica`.
package struct ReplicaRequest: Codable, Sendable {
    package var user: String
    package var host: String

    /// A request about the replica of an SMI on a host.
    package init(user: String, host: String) {
        self.user = user
        self.host = host
    }
}

/// `launch`.
package struct LaunchRequest: Codable, Sendable {
    package var user: String
    package var image: String
    package var host: String?
    package var accessPoint: String?
    /// Bytes.
    package var memory: Int64
    package var cpus: Double
    package var pids: Int
    package var program: [String]
    package var environment: [String]
    /// There must be a restorable copy at any moment.
    package var wholeCopy: Bool?

    /// A request to launch an SMI.
    package init(
        user: String,
        image: String,
        host: String? = nil,
        accessPoint: String? = nil,
        limits: (memory: Int64, cpus: Double, pids: Int),
        program: [String],
        environment: [String] = [],
        wholeCopy: Bool = false
    ) {
        self.wholeCopy = wholeCopy ? true : nil
        self.user = user
        self.image = image
        self.host = host
        self.accessPoint = accessPoint
        self.memory = limits.memory
        self.cpus = limits.cpus
        self.pids = limits.pids
        self.program = program
        self.environment = environment
    }
}

/// `handoff`.
package struct HandoffRequest: Codable, Sendable {
    package var user: String
    package var to: String?
    package var accessPoint: String?
    package var dryRun: Bool

    /// A request to move an SMI to a host, or to the host of an access point.
    package init(user: String, to: String? = nil, accessPoint: String? = nil, dryRun: Bool = false) {
        self.user = user
        self.to = to
        self.accessPoint = accessPoint
        self.dryRun = dryRun
    }
}

/// A request that names one user: `inspect`, `processes`, `stop`, `doctor`.
package struct UserRequest: Codable, Sendable {
    package var user: String

    /// A request about one SMI.
    package init(user: String) {
        self.user = user
    }
}

/// `remove`.
package struct RemoveRequest: Codable, Sendable {
    package var user: String
    package var force: Bool

    /// A request to remove an SMI; `force` stops it first.
    package init(user: String, force: Bool) {
        self.user = user
        self.force = force
    }
}

/// `events`.
package struct EventsRequest: Codable, Sendable {
    package var user: String?
    package var follow: Bool

    /// A request for the events of one user or of all.
    package init(user: String?, follow: Bool) {
        self.user = user
        self.follow = follow
    }
}

/// `roam`: a user is at an access point.
package struct RoamRequest: Codable, Sendable {
    package var user: String
    package var ap: String
    /// When, in seconds since 1970; nil: now.
    package var at: Double?
    package var kind: RoamingKind
    /// Whether it is a line of a trace: then users without a machine are learned from.
    package var isReplayed: Bool

    /// A request that tells of one association, or of its end.
    package init(user: String, ap: String, at: Double? = nil, kind: RoamingKind = .roam, isReplayed: Bool = false) {
        self.user = user
        self.ap = ap
        self.at = at
        self.kind = kind
        self.isReplayed = isReplayed
    }
}

/// The answer to `roam`.
package struct RoamReply: Codable, Sendable {
    /// Whether the user has a machine, which follows.
    package var hasMachine: Bool
}

/// `image-in-use`.
package struct ImageRequest: Codable, Sendable {
    package var digest: String

    /// A request about one image.
    package init(digest: String) {
        self.digest = digest
    }
}

/// A request or reply without content.
package struct Nothing: Codable, Sendable {
    /// Nothing at all.
    package init() {}
}
