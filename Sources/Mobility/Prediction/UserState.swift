/// An association as the predictor keeps it.
struct Visit {
    var ap: Int32 = -1
    /// dBm; 0 where not known.
    var rssi: Float = 0
    /// Seconds on the time line of `RoamingRecord.absoluteTime`.
    var time: Double = 0
}

/// One association of a user's history in four bytes: 20 bits access point, 6 dwell, 5 time of day, 1 start.
struct PackedVisit {
    /// Access points that fit.
    static let apLimit = 1 << 20
    let bits: UInt32

    init(bits: UInt32) { self.bits = bits }

    /// `logDwell` is the logarithm of the seconds spent there (-1 where not known), `slot` the time of day in 1/32 day.
    init(ap: Int32, logDwell: Float, slot: UInt32, starts: Bool) {
        let dwell = UInt32(min(max(logDwell * 9 + 2, 0), 63))
        bits = UInt32(ap) & 0xf_ffff | dwell << 20 | (slot & 31) << 26 | (starts ? 1 << 31 : 0)
    }

    var ap: Int32 { Int32(bits & 0xf_ffff) }
    var slot: UInt32 { (bits >> 26) & 31 }
    /// Whether the visit began a session, so that the one before it in the history did not lead to it.
    var starts: Bool { bits >> 31 != 0 }

    /// The same visit with a dwell.
    func staying(_ logDwell: Float) -> PackedVisit {
        PackedVisit(ap: ap, logDwell: logDwell, slot: slot, starts: starts)
    }

    /// The time of day in 1/32 days.
    static func slot(_ time: Double) -> UInt32 {
        let inDay = time - (time / 86_400).rounded(.down) * 86_400
        return UInt32(inDay / 2_700) & 31
    }
}

/// What is kept of one user: the last few associations and a bounded history of where the user went.
struct UserState {
    static let recentCount = 6
    /// Newest first; the first is where the user is.
    var recent: InlineArray<6, Visit> = .init(repeating: Visit())
    var recentUsed = 0
    /// Where the pass that began with each of `recent` is kept (`PassMemory`).
    var passes: InlineArray<6, PassHandle> = .init(repeating: PassHandle())
    /// Where in the pool the predictions made at each of `recent` wait for their outcome.
    var pending: InlineArray<6, PassHandle> = .init(repeating: PassHandle())
    /// The same for the association in question, until it is learned.
    var staged = PassHandle()
    /// Evidence on whether the user stays where they are, kept as long as that takes; the first is NaN where there is none.
    var stay: InlineArray<12, Float> = .init(repeating: .nan)
    /// The same for the association in question, until it is learned.
    var stagedStay: InlineArray<12, Float> = .init(repeating: .nan)
    /// `PackedVisit`s, oldest first.
    var history: [UInt32] = []
    var lastTime = -Double.infinity
    /// Flaps in a row.
    var flaps: Int32 = 0

    /// Whether the association begins a session that does not go on from where the user was.
    func isFresh(_ record: RoamingRecord) -> Bool {
        recentUsed == 0 || record.kind == .start && record.absoluteTime - lastTime > 30
    }
}
