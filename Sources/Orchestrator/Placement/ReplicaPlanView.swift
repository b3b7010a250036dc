import Mobility

/// The replica plan of an SMI as `smirun inspect` shows it; times are seconds since 1970.
package struct ReplicaPlanView: Codable, Sendable {
    /// A host that is to hold a replica.
    package struct Replica: Codable, Sendable {
        package var host: String
        /// The access points behind it that the user is expected at.
        package var aps: [String]
        /// `live`, `base` or `kept`.
        package var freshness: String
        /// When live rounds have to have started; nil where there are none.
        package var startLiveAt: Double?
        /// When the earliest hand-off there is expected, by which the replica has to be fresh.
        package var neededAt: Double?
        /// Seconds that bringing it up to date takes.
        package var replicationSeconds: Double?
        /// Why it is there.
        package var why: [String]

        enum CodingKeys: String, CodingKey {
            case host, aps, freshness, why
            case startLiveAt = "start_live_at"
            case neededAt = "needed_at"
            case replicationSeconds = "replication_s"
        }
    }

    /// A host that was considered and is to hold none.
    package struct Passed: Codable, Sendable {
        package var host: String
        package var why: String
    }

    /// The access point of the association that the plan was made at.
    package var ap: String
    package var madeAt: Double
    /// Probability that the user stays for three minutes or longer.
    package var stationary: Double
    /// Whether the hand-off to that access point's host waits until the user has stayed.
    package var holdHandoff: Bool
    /// The most important first.
    package var replicas: [Replica]
    package var without: [Passed]

    enum CodingKeys: String, CodingKey {
        case ap, replicas, without
        case madeAt = "made_at"
        case stationary = "stationary_p"
        case holdHandoff = "hold_handoff"
    }

    /// A plan in words and absolute times.
    package init(_ plan: ReplicaPlan) {
        ap = plan.ap
        madeAt = plan.time
        stationary = plan.stationaryProbability
        holdHandoff = plan.holdHandoff
        replicas = plan.entries.map { entry in
            Replica(
                host: entry.host,
                aps: entry.aps,
                freshness: entry.freshness.rawValue,
                startLiveAt: entry.startLiveIn.map { plan.time + $0 },
                neededAt: entry.neededIn.map { plan.time + $0 },
                replicationSeconds: entry.replicationSeconds,
                why: entry.reasons.map(\.description)
            )
        }
        without = plan.passed.map { Passed(host: $0.host, why: $0.reason.description) }
    }
}
