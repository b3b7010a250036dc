/// What the normaliser remembers of one user: the association of now and the two before it.
///
/// Kept free of heap references but for the two names, as there may be a million of them.
struct RoamingTrack: Sendable {
    /// A stay at one access point.
    struct Stay: Sendable {
        /// Number of the access point in the normaliser's table.
        var ap: Int32
        /// Number of the NAS, -1 where none was named.
        var nas: Int32
        /// When it began.
        var since: Double
        /// How coarse `since` is.
        var resolution: Double
        /// Hash of the session's name, 0 where none was named.
        var session: UInt64
        /// Bit per `RoamingSource` that told of it.
        var sources: UInt8
    }

    /// A Stop that waits: if the user turns up elsewhere within the grace, it was a roam.
    struct PendingStop: Sendable {
        var time: Double
        var source: RoamingSource
        var session: String?
        /// When the grace is over, by our clock.
        var due: Double
    }

    var user: String
    var station: String
    var current: Stay?
    var previous: Stay?
    var earlier: Stay?
    var pendingStop: PendingStop?
    /// Whether the queue of stops holds this user.
    var stopQueued = false
    /// Time of the last record, so that records never go back.
    var lastTime: Double = -.infinity
    /// Time of the last association.
    ///
    /// What is older is the past; what is only older than the last stop is not, as an access point may notice minutes
    /// later that a station has left.
    var lastArrival: Double = -.infinity
    /// Day of the last event, echoed in records that no event carries.
    var day: Int?
    /// Counts uses of the slot, so that queues recognise a slot that was given away.
    var generation: UInt32 = 0

    /// Remembers a stay and makes another the current one.
    mutating func move(to stay: Stay) {
        if let current {
            (previous, earlier) = (current, previous)
        }
        current = stay
        pendingStop = nil
    }

    /// The stop that waited is true: there is no current stay any more.
    mutating func leave() {
        if let current { (previous, earlier) = (current, previous) }
        current = nil
        pendingStop = nil
    }
}

extension RoamingSource {
    /// One bit for sets of sources.
    var bit: UInt8 {
        switch self {
        case .radius: 1
        case .hostapd: 2
        case .mecWLAN: 4
        case .mecLocation: 8
        case .line: 16
        }
    }
}
