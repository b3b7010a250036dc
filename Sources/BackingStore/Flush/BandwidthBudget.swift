/// How fast bytes may leave: a token bucket on the caller's clock.
///
/// Pure.
package struct BandwidthBudget: Sendable, Equatable {
    /// Bytes a second on average.
    package private(set) var bytesPerSecond: Double
    /// Seconds' worth of bytes that may leave at once after a pause.
    private let burst: Double

    /// The time, in seconds, up to which what has left is paid for.
    private var paidUntil = -Double.infinity

    /// A budget; `burst`, in seconds, is an eighth unless given.
    package init(bytesPerSecond: Double, burst: Double = 0.125) {
        self.bytesPerSecond = bytesPerSecond
        self.burst = burst
    }

    /// Changes the rate of what is spent from now on.
    package mutating func change(bytesPerSecond: Double) {
        self.bytesPerSecond = bytesPerSecond
    }

    /// Spends bytes at a time (seconds); returns how many seconds to wait before the next are sent.
    package mutating func spend(_ bytes: Int, at now: Double) -> Double {
        let earliest = now - burst
        paidUntil = max(paidUntil, earliest) + Double(bytes) / bytesPerSecond
        return max(0, paidUntil - now)
    }
}
