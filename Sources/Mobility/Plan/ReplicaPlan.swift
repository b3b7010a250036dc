/// Which hosts should hold a replica of one SMI, how fresh, from when, and why.
///
/// Pure: the orchestrator gives what it measured and knows, and carries out the difference to what there is.
public struct ReplicaPlan: Sendable, Hashable, Codable {
    /// Why a host holds, or does not hold, a replica.
    public enum Reason: Sendable, Hashable, Codable {
        /// The user's SMI runs there.
        case runsHere
        /// The user was there last and may come back; the copy is kept.
        case previousHost
        /// The user is expected there, with this share of hand-offs, in this many seconds.
        case expected(share: Double, seconds: Double)
        /// It was wanted lately and is kept against flapping, for this many more seconds.
        case keptAgainstFlaps(seconds: Double)
        /// The user stays where they are: nothing is streamed.
        case userStays(probability: Double)
        /// The share of hand-offs expected there is below the threshold.
        case unlikely(share: Double)
        /// More likely hosts take the whole budget of the link.
        case linkBudget(share: Double)
        /// The host has no room for the replica.
        case noRoom(bytes: Int64)
        /// As many replicas as are allowed are on likelier hosts.
        case replicaLimit(share: Double)
    }

    /// How fresh a replica has to be.
    public enum Freshness: String, Sendable, Hashable, Codable {
        /// What is there is left there, and not brought up to date.
        case kept
        /// Everything but the running memory is brought up to date: image, rootfs, cold pages.
        case base
        /// Live rounds go on until the hand-off.
        case live
    }

    /// A host's part of the plan.
    public struct Entry: Sendable, Hashable, Codable {
        /// The host.
        public var host: String
        /// The access points behind it that are expected.
        public var aps: [String]
        /// How fresh its replica has to be.
        public var freshness: Freshness
        /// Seconds from the association until live rounds should start; 0: now; nil where there are none.
        public var startLiveIn: Double?
        /// Seconds from the association until the earliest hand-off there (10th percentile), by which the replica has to
        /// be fresh; nil where none is expected.
        public var neededIn: Double?
        /// Seconds that it takes to bring the replica up to date, as measured; nil where nothing is sent.
        public var replicationSeconds: Double?
        /// Why.
        public var reasons: [Reason]
    }

    /// A host that was considered and gets no replica.
    public struct Passed: Sendable, Hashable, Codable {
        /// The host.
        public var host: String
        /// Why not.
        public var reason: Reason
    }

    /// The user.
    public var user: String
    /// The access point of the association that the plan was made at.
    public var ap: String
    /// Time of the association that the plan was made at.
    public var time: Double
    /// Whether a hand-off to the present access point should wait until the user has stayed `confirmAfter` seconds.
    public var holdHandoff: Bool
    /// Seconds that confirm a dwell after a flap.
    public var confirmAfter: Double
    /// Probability that the user stays for three minutes or longer.
    public var stationaryProbability: Double
    /// The hosts with replicas, the most important first; without the host that the SMI runs on.
    public var entries: [Entry]
    /// The hosts without.
    public var passed: [Passed]
}

/// What a plan is made from, besides the prediction.
public struct ReplicaPlanInput: Sendable {
    /// What is known of a host that may hold replicas.
    public struct Host: Sendable, Hashable, Codable {
        /// Bytes per second that this SMI's replication may use on the way there.
        public var bytesPerSecond: Double
        /// Bytes that a replica may take there; nil: no limit.
        public var freeBytes: Int64?
        /// Bytes still to be sent until a replica there is as fresh as the last epoch; nil where there is none yet.
        public var behindBytes: Int64?

        /// Makes the description of a host.
        public init(bytesPerSecond: Double, freeBytes: Int64? = nil, behindBytes: Int64? = nil) {
            self.bytesPerSecond = bytesPerSecond
            self.freeBytes = freeBytes
            self.behindBytes = behindBytes
        }
    }

    /// The host on which the SMI runs.
    public var owner: String
    /// The host on which it ran before, where that still has its copy.
    public var previousOwner: String?
    /// Size of the whole SMI, for hosts that have nothing of it.
    public var bytes: Int64
    /// Bytes per second that the SMI dirties.
    public var dirtyBytesPerSecond: Double
    /// Bytes per second that all replicas of the SMI together may use on the owner's link.
    public var linkBytesPerSecond: Double
    /// Hosts by name; a host that is not listed has the owner's link and no limit on room.
    public var hosts: [String: Host]

    /// Makes an input.
    public init(
        owner: String,
        previousOwner: String? = nil,
        bytes: Int64,
        dirtyBytesPerSecond: Double,
        linkBytesPerSecond: Double,
        hosts: [String: Host] = [:]
    ) {
        self.owner = owner
        self.previousOwner = previousOwner
        self.bytes = bytes
        self.dirtyBytesPerSecond = dirtyBytesPerSecond
        self.linkBytesPerSecond = linkBytesPerSecond
        self.hosts = hosts
    }

    func host(_ name: String) -> Host { hosts[name] ?? Host(bytesPerSecond: linkBytesPerSecond) }

    /// Seconds to bring a replica there up to date, rounds of what is dirtied meanwhile included.
    public func secondsToReplicate(to name: String) -> Double {
        let host = host(name)
        let rate = min(host.bytesPerSecond, linkBytesPerSecond)
        guard rate > 0 else { return .infinity }
        let residue = min(dirtyBytesPerSecond / rate, 0.9)
        return Double(host.behindBytes ?? bytes) / rate / (1 - residue)
    }
}
