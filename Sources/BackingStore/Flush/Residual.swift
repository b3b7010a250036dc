/// What a cut would have to carry now, measured.
///
/// Pure.
package struct Residual: Sendable, Equatable {
    /// Pages that the backing file does not hold in their newest version.
    package var pages: Int
    /// Bytes that a page took on the wire, on average, in the latest rounds.
    package var wireBytesPerPage: Double
    /// Pages written for the first time in a round, per second.
    package var pagesPerSecond: Double

    /// A measured residual.
    package init(pages: Int, wireBytesPerPage: Double, pagesPerSecond: Double) {
        self.pages = pages
        self.wireBytesPerPage = wireBytesPerPage
        self.pagesPerSecond = pagesPerSecond
    }

    /// Bytes to carry.
    package var wireBytes: Double { Double(pages) * wireBytesPerPage }

    /// Seconds to carry it at a rate in bytes a second.
    package func seconds(at bandwidth: Double) -> Double { wireBytes / bandwidth }

    /// What remains for the freeze if one more live round is made first: what is written while that round is sent.
    package func afterOneMoreRound(at bandwidth: Double) -> Residual {
        var next = self
        next.pages = min(pages, Int(seconds(at: bandwidth) * pagesPerSecond))
        return next
    }
}

/// How the memory of a hand-off travels.
package enum CutMode: Sendable, Equatable {
    /// Everything before the restore.
    case precopy
    /// The page map before the restore, the rest afterwards, faulted pages first.
    case postcopy
    /// Everything before the restore, after the program has been slowed to a share of its speed.
    case throttle(Double)

    /// Seconds of transfer that memory may take of a freeze.
    package static let budget = 0.05

    /// As the hand-off's report calls it.
    package var name: String {
        switch self {
        case .precopy: "precopy"
        case .postcopy: "postcopy"
        case .throttle: "throttle"
        }
    }

    /// Chooses from measurements: `bandwidth` in bytes a second, `budget` in seconds for memory during the freeze.
    ///
    /// `needsWholeCopy` is for an SMI that must always have a restorable copy: it is slowed down instead.
    package static func choose(
        _ residual: Residual,
        bandwidth: Double,
        budget: Double,
        needsWholeCopy: Bool
    ) -> CutMode {
        let expected = residual.afterOneMoreRound(at: bandwidth)
        if min(residual.seconds(at: bandwidth), expected.seconds(at: bandwidth)) <= budget { return .precopy }
        guard needsWholeCopy else { return .postcopy }
        // Rounds shrink by (bytes written / bytes sent) each; below a half they converge within a few. A program that
        // writes faster is slowed to half of what the link carries.
        let written = residual.pagesPerSecond * residual.wireBytesPerPage
        return .throttle(max(0.01, min(1, bandwidth / 2 / max(written, 1))))
    }

    /// What to do where so many seconds are left after rounds that should have brought a `precopy` within the budget.
    package func reconsidered(left: Double, needsWholeCopy: Bool) -> CutMode {
        guard self == .precopy, left > Self.budget else { return self }
        return needsWholeCopy ? .throttle(Self.furtherShare(left: left)) : .postcopy
    }

    /// The share of its speed that a program, slowed already, is slowed to where so many seconds are still left.
    ///
    /// Half of what would fit, as what is left varies; never less than a tenth at once.
    package static func furtherShare(left: Double) -> Double {
        max(0.1, budget / 2 / max(left, budget))
    }
}
