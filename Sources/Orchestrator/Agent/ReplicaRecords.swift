/// What the store keeps of one replica that shall be, under `replica/<user>/<host>`.
package struct ReplicaRecord: Codable, Sendable, Equatable {
    /// Why a host holds a replica.
    package enum Reason: String, Codable, Sendable {
        /// `smirun replica add` said so.
        case named
        /// The SMI was there before: the user may come back.
        case previous
        /// The user is expected there.
        case predicted
    }

    package var user: String
    package var host: String
    package var reason: Reason
    /// Seconds since 1970.
    package var since: Double

    /// Key of a replica's record in the store.
    package static func key(_ user: String, _ host: String) -> String { prefix(user) + host }

    /// Prefix of the keys of a user's replicas.
    package static func prefix(_ user: String) -> String { "replica/\(user)/" }
}

extension ClusterStore {
    /// After a hand-off: the host that the SMI came from keeps a replica from now on, and an earlier such one ends.
    ///
    /// What was asked for by name goes on to be so. Said again, it changes nothing.
    package func settleReplicas(of smi: SMIRecord) async throws {
        guard let previous = smi.cameFrom else { return }
        let known = try await records(ReplicaRecord.self, prefix: ReplicaRecord.prefix(smi.user)).map(\.record)
        let isNamed = known.contains { ($0.host == previous || $0.host == smi.host) && $0.reason == .named }
        let reason = isNamed ? ReplicaRecord.Reason.named : .previous
        if known.first(where: { $0.host == previous })?.reason != reason {
            let record = ReplicaRecord(user: smi.user, host: previous, reason: reason, since: secondsSince1970())
            try await write(ReplicaRecord.key(smi.user, previous), record, expect: .any)
        }
        // Afterwards: a daemon that is killed in between still finds what was asked for by name.
        for record in known
        where record.host == smi.host || record.reason == .previous && record.host != previous {
            _ = try await delete(ReplicaRecord.key(smi.user, record.host), expect: .any)
        }
    }
}
