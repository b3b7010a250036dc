import Synchronization

/// Everything that the event sources count; docs/roaming-events.md says what each means.
package enum RoamingCounter: Int, Sendable, CaseIterable {
    // RADIUS accounting
    case radiusReceived
    case radiusAccepted
    case radiusDuplicates
    case radiusStatusServer
    case radiusUnknownClient
    case radiusMalformed
    case radiusUnexpectedCode
    case radiusBadAuthenticator
    case radiusIncomplete
    case radiusOverload
    // hostapd control sockets
    case hostapdAttached
    case hostapdLost
    case hostapdEvents
    case hostapdIgnored
    case hostapdMalformed
    case hostapdOverload
    // HTTP: MEC 028 and 013, lines
    case httpAccepted
    case httpUnauthorized
    case httpMalformed
    case httpTooLarge
    case httpIgnored
    case httpOverload
    case linesMalformed
    // MEC 021 out
    case noticesSent
    case noticesRetried
    case noticesDropped
    // Normaliser
    case events
    case records
    case duplicates
    case collapsed
    case staleStops
    case staleInterims
    case late
    case flaps
    case recovered
    case resets
    case unknownStations
    case unknownAccessPoints
    case otherStations
    case wrongClock
    case reorderOverflow
    case evictedUsers

    /// The name in `/metrics`: `radius_received` for `radiusReceived`.
    package var name: String {
        String(describing: self).reduce(into: "") { name, letter in
            if letter.isUppercase { name.append("_") }
            name += letter.lowercased()
        }
    }
}

/// Counts as a value, for the pure parts.
package struct RoamingTally: Sendable, Hashable {
    private var counts = [Int](repeating: 0, count: RoamingCounter.allCases.count)

    package init() {}

    /// How often it happened.
    package subscript(counter: RoamingCounter) -> Int {
        get { counts[counter.rawValue] }
        set { counts[counter.rawValue] = newValue }
    }

    /// The sum of two tallies.
    package static func + (left: RoamingTally, right: RoamingTally) -> RoamingTally {
        var sum = left
        for index in sum.counts.indices { sum.counts[index] += right.counts[index] }
        return sum
    }

    /// Counter names to counts, all of them, zeros too.
    package var named: [String: Int] {
        Dictionary(uniqueKeysWithValues: RoamingCounter.allCases.map { ($0.name, self[$0]) })
    }
}

/// Counts shared between the event loops and tasks of the sources.
package final class RoamingCounters: Sendable {
    private let tally = Mutex(RoamingTally())

    package init() {}

    /// Adds to one counter.
    package func add(_ counter: RoamingCounter, _ amount: Int = 1) {
        tally.withLock { $0[counter] += amount }
    }

    /// All counts now.
    package var snapshot: RoamingTally { tally.withLock { $0 } }
}
