/// How fast bytes may leave: a token bucket on the caller's clock.
///
/// Pure.
package struct BandwidthBudget: Sendable, Equatable {
    /// Bytes a second on average.
    package let bytesPerSecond: Double
    /// Bytes that may leave at once after a pause.
    package let burst: Double

    /// The time, in seconds, up to which what has left is paid for.
    private var paidUntil = -Double.infinity

    /// A budget with a burst of an eighth of a second unless given.
    package init(bytesPerSecond: Double, burst: Double? = nil) {
        self.bytesPerSecond = bytesPerSecond
        self.burst = burst ?? bytesPerSecond / 8
    }

    /// Spends bytes at a time (seconds); returns how many seconds to wait before the next are sent.
    package mutating func spend(_ bytes: Int, at now: Double) -> Double {
        let earliest = now - burst / bytesPerSecond
        paidUntil = max(paidUntil, earliest) + Double(bytes) / bytesPerSecond
        return max(0, paidUntil - now)
    }
}
