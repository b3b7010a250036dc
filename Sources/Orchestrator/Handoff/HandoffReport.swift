/// The figures of one hand-off, as `smirun handoff --wait -o json` prints them.
///
/// All times are upper bounds taken on the source's clock: *frozen* and *blackout* from the freeze until the
/// destination's 'resumed' has arrived, *total* from the trigger until the commit is known.
package struct HandoffReport: Codable, Sendable, Equatable {
    package var user: String
    package var from: String
    package var to: String
    package var generation: Int
    /// The longest pause that a process inside can have seen, ms.
    package var frozenMs: Double?
    /// The longest silence that a client outside can have seen, ms.
    package var blackoutMs: Double?
    /// Trigger to commit, ms.
    package var totalMs: Double
    /// Bytes that were moved while the SMI was frozen.
    package var residualBytes: Int64
    /// Bytes that crossed the link for this hand-off.
    package var wireBytes: Int64
    /// `warm` where the destination held a replica, else `cold`.
    package var replica: String
    /// `precopy`, `postcopy` or `throttle`.
    package var mode: String
    /// Milliseconds of each phase.
    package var phases: [String: Double]
    /// Set where nothing had to be moved.
    package var note: String?

    enum CodingKeys: String, CodingKey {
        case user, from, to, generation, replica, mode, phases, note
        case frozenMs = "frozen_ms"
        case blackoutMs = "blackout_ms"
        case totalMs = "total_ms"
        case residualBytes = "residual_bytes"
        case wireBytes = "wire_bytes"
    }

    /// A report that says that the SMI is there already.
    package static func alreadyThere(user: String, host: String, generation: Int) -> HandoffReport {
        HandoffReport(
            user: user,
            from: host,
            to: host,
            generation: generation,
            frozenMs: 0,
            blackoutMs: 0,
            totalMs: 0,
            residualBytes: 0,
            wireBytes: 0,
            replica: "warm",
            mode: "precopy",
            phases: [:],
            note: "\(user) is on \(host) already"
        )
    }
}
