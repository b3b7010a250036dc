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
