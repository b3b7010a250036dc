/// Measures the phases of one operation, in milliseconds.
struct PhaseTimer: Sendable {
    private(set) var phases: [String: Double] = [:]
    private var last = ContinuousClock.now
    private let began = ContinuousClock.now

    /// Ends a phase, which began when the one before it ended.
    mutating func end(_ name: String, at now: ContinuousClock.Instant = .now) {
        phases[name] = last.duration(to: now) / .milliseconds(1)
        last = now
    }

    /// Takes over phases that were measured elsewhere, beside those here.
    mutating func add(_ others: [String: Double]) {
        phases.merge(others) { _, new in new }
    }

    /// All phases, with their sum as `total`.
    mutating func finish() -> [String: Double] {
        phases["total"] = began.duration(to: .now) / .milliseconds(1)
        return phases
    }
}
