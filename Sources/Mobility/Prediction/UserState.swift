/// An association as the predictor keeps it.
struct Visit {
    var ap: Int32 = -1
    /// dBm; 0 where not known.
    var rssi: Float = 0
    /// Seconds on the time line of `RoamingRecord.absoluteTime`.
    var time: Double = 0
}

/// One association of a user's history in four bytes.
struct PackedVisit {
    let bits: UInt32

    init(bits: UInt32) { self.bits = bits }

    /// `logDwell` is the logarithm of the seconds spent there (-1 where not known), `slot` the time of day in 1/32 day.
    init(ap: Int32, logDwell: Float, slot: UInt32, starts: Bool) {
        let dwell = UInt32(min(max(logDwell * 9 + 2, 0), 63))
        bits = UInt32(ap) & 0xf_ffff | dwell << 20 | (slot & 31) << 26 | (starts ? 1 << 31 : 0)
    }

    var ap: Int32 { Int32(bits & 0xf_ffff) }
    var logDwell: Float { (Float((bits >> 20) & 63) - 1.5) / 9 }
    var hasDwell: Bool { (bits >> 20) & 63 != 0 }
    var slot: UInt32 { (bits >> 26) & 31 }
    /// Whether the visit began a session, so that the one before it in the history did not lead to it.
    var starts: Bool { bits >> 31 != 0 }
}

/// What is kept of one user: the last few associations and a bounded history of where the user went.
struct UserState {
    static let recentCount = 6
    /// Newest first; the first is where the user is.
    var recent: InlineArray<6, Visit> = .init(repeating: Visit())
    var recentUsed = 0
    /// Where the pass that began with each of `recent` is kept (`PassMemory`).
    var passes: InlineArray<6, PassHandle> = .init(repeating: PassHandle())
    /// Oldest first.
    var history: [UInt32] = []
    /// Whether the last record was a stop, and when.
    var stopped = false
    var lastTime = -Double.infinity
    /// Where in the pool the predictions made at each of `recent` wait for their outcome.
    var pending: InlineArray<6, PassHandle> = .init(repeating: PassHandle())
    /// The same for the association in question, until it is learned.
    var staged = PassHandle()
}
