import BackingStore
import Isolation
import Replication

/// Collects the clocks of one hand-off on the source's side.
struct HandoffTimes {
    private let clock = ContinuousClock()
    private let triggered: ContinuousClock.Instant
    private var last: ContinuousClock.Instant
    private var frozenAt: ContinuousClock.Instant?
    private var resumedAt: ContinuousClock.Instant?
    private var phases: [String: Double] = [:]
    private let record: SMIRecord
    private let from: String
    private let to: String
    /// Bytes handed to the link so far.
    var bytes: Int64 = 0
    private var warmth: Warmth?

    init(record: SMIRecord, from: String, to: String) {
        self.record = record
        self.from = from
        self.to = to
        self.triggered = clock.now
        self.last = clock.now
    }

    /// Ends a phase: the time since the last mark is its length.
    mutating func mark(_ phase: String) {
        let now = clock.now
        phases[phase] = milliseconds(now - last)
        last = now
    }

    /// Takes over what was sent while the SMI ran.
    mutating func warmed(_ warmth: Warmth) {
        self.warmth = warmth
    }

    /// Takes over what the checkpoint measured.
    mutating func froze(_ report: CheckpointReport) {
        frozenAt = report.frozenAt
        for (phase, length) in report.phases { phases["dump." + phase] = milliseconds(length) }
        mark("dump")
    }

    /// The destination's 'resumed' has arrived.
    mutating func resumed() {
        mark("restore")
        resumedAt = clock.now
    }

    /// The report; the destination's own phases are added under their names.
    func report(phasesThere: [String: Double]) -> HandoffReport {
        let pause = frozenAt.flatMap { start in resumedAt.map { milliseconds($0 - start) } }
        return HandoffReport(
            user: record.user,
            from: from,
            to: to,
            generation: record.generation + 1,
            frozenMs: pause,
            blackoutMs: pause,
            totalMs: milliseconds((resumedAt ?? clock.now) - triggered),
            residualBytes: bytes,
            wireBytes: bytes + (warmth?.bytes ?? 0),
            replica: warmth?.wasWarm == true ? "warm" : "cold",
            mode: warmth?.mode.name ?? CutMode.precopy.name,
            phases: phases.merging(phasesThere) { mine, _ in mine }
        )
    }
}

/// A duration in milliseconds, to the microsecond.
package func milliseconds(_ duration: Duration) -> Double {
    let parts = duration.components
    let value = Double(parts.seconds) * 1000 + Double(parts.attoseconds) / 1e15
    return (value * 1000).rounded() / 1000
}
