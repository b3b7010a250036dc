import Isolation
import Mobility

/// What the cluster store keeps of one SMI, under `smi/<user>`.
///
/// The pair (host, generation) is the ownership: it is changed by one compare-and-swap on the whole record, and by
/// nothing else while a hand-off is under way.
package struct SMIRecord: Codable, Sendable, Equatable {
    /// Where an SMI is in its life.
    package enum State: String, Codable, Sendable {
        /// The owner is making the sandbox for the first time.
        case launching
        /// The owner has the one runnable copy.
        case running
        /// The processes were ended; the files are kept on the owner.
        case stopped
    }

    /// The user; the SMI's name.
    package var user: String
    /// The host that owns the SMI.
    package var host: String
    /// Counts the changes of ownership; starts at 1.
    package var generation: Int
    package var state: State
    package var spec: SandboxSpec
    /// The image's name as the user gave it.
    package var imageName: String
    /// When the SMI was launched, seconds since 1970.
    package var createdAt: Double
    /// Names the attempt that made this generation, so that an unanswered compare-and-swap can be recognised.
    package var attempt: String
    /// The last hand-off that was committed.
    package var lastHandoff: HandoffSummary?
    /// Set where there must be a restorable copy at any moment: memory never follows a hand-off.
    package var wholeCopy: Bool?

    /// Whether there must be a restorable copy at any moment.
    package var needsWholeCopy: Bool { wholeCopy == true }

    /// The host that it came to its host from; nil where it has been there since its launch.
    package var cameFrom: String? {
        guard let lastHandoff, lastHandoff.to == host, lastHandoff.from != host else { return nil }
        return lastHandoff.from
    }

    /// Key of a user's record in the store.
    package static func key(_ user: String) -> String { prefix + user }

    /// Prefix of all these keys.
    package static let prefix = "smi/"
}

/// The last committed hand-off as kept with the SMI.
package struct HandoffSummary: Codable, Sendable, Equatable {
    package var from: String
    package var to: String
    /// Seconds since 1970.
    package var at: Double
}

/// What the store keeps of one host, under `host/<name>`.
package struct HostRecord: Codable, Sendable, Equatable {
    package var name: String
    /// The address that other hosts reach it at.
    package var address: String
    /// A second address, of IPv6, where it has one: routes to SMIs' IPv6 addresses lead there.
    package var address6: String?
    /// The port of its peer service.
    package var port: Int

    /// Key of a host's record in the store.
    package static func key(_ name: String) -> String { prefix + name }

    /// Prefix of all these keys.
    package static let prefix = "host/"
}

/// What the store keeps of one access point, under `ap/<name>`.
package struct AccessPointRecord: Codable, Sendable, Equatable {
    /// The access point's name or BSSID.
    package var name: String
    /// The host that serves it.
    package var host: String
    /// Position, metres, where it was given so.
    package var x: Double?
    package var y: Double?
    /// Position on the earth (WGS84), degrees, where it was given so.
    package var latitude: Double?
    package var longitude: Double?
    /// The building, campus or district that it belongs to.
    package var zone: String?

    /// The access point as the map has it.
    package var accessPoint: AccessPoint {
        var geodetic: GeodeticPosition?
        if let latitude, let longitude { geodetic = GeodeticPosition(latitude: latitude, longitude: longitude) }
        return AccessPoint(name: name, x: x, y: y, geodetic: geodetic, host: host, zone: zone)
    }

    /// Key of an access point's record in the store.
    package static func key(_ name: String) -> String { prefix + name }

    /// Prefix of all these keys.
    package static let prefix = "ap/"
}

/// One thing that happened to an SMI or a host, under `event/<sequence>`.
package struct EventRecord: Codable, Sendable, Equatable {
    /// Seconds since 1970 on the clock of the host that reports it.
    package var at: Double
    /// The host that reports it.
    package var host: String
    package var user: String?
    /// What happened.
    ///
    /// For example `launched`, `handoff-started`, `resumed`, `handoff-failed`, `held`, `not-followed` or `removed`.
    package var kind: String
    /// Figures and names that belong to it.
    package var detail: [String: String]

    /// Prefix of all these keys.
    package static let prefix = "event/"
}

/// Whether a string is a valid user name: `[a-z][a-z0-9-]{0,31}`.
package func isValidUserName(_ name: String) -> Bool {
    let bytes = Array(name.utf8)
    guard let first = bytes.first, bytes.count <= 32, (97...122).contains(first) else { return false }
    return bytes.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 45 }
}
