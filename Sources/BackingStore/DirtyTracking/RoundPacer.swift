/// Decides how long to wait between rounds, so that tracking costs the tracked program little.
///
/// The first write to a page after a scan takes an extra fault. With d distinct pages written in a round of t seconds
/// the program loses d x cost / t of its time; the pacer keeps that below the target. Pure.
package struct RoundPacer: Sendable {
    /// Seconds that the first write to a page after a scan costs (measured: 3.6 µs with the scan's share).
    package var secondsPerFirstWrite = 3.6e-6
    /// The share of the program's time that may be lost, with a margin below the promised 2 %.
    package var target = 0.015
    /// Bounds of the interval, in seconds.
    package var bounds: ClosedRange<Double> = 0.1...30

    /// The time to the next round, in seconds.
    package private(set) var interval: Double = 0.5

    /// A pacer that starts with rounds of half a second.
    package init() {}

    /// Takes in how many pages a round found written.
    package mutating func finished(dirtyPages: Int) {
        let needed = Double(dirtyPages) * secondsPerFirstWrite / target
        // Distinct pages grow slower than time: the cost at `needed` is at most the target. A shorter interval is
        // approached by halves, as one quiet round says little.
        let next = needed > interval ? needed : (interval + needed) / 2
        interval = min(max(next, bounds.lowerBound), bounds.upperBound)
    }
}
