/// In how many of the latest rounds, without a gap, each page was written.
///
/// Pure.
///
/// What changes every round is sent in vain every round but the last: such pages are left for the cut.
package struct PageHeat: Sendable {
    /// From this many rounds in a row on, a page is hot.
    package static let hotFrom = 3
    /// More rounds in a row than this are not told apart.
    private static let most = 8

    /// Pages written in the last round, in the last two, ...: each a part of the one before.
    private var levels: [[Range<UInt64>]] = []

    /// No page has been seen.
    package init() {}

    /// Takes in one round's written pages, as sorted, disjoint ranges.
    package mutating func finished(_ written: [Range<UInt64>]) {
        var next = [written]
        for level in levels.prefix(Self.most - 1) {
            let again = intersection(level, written)
            guard !again.isEmpty else { break }
            next.append(again)
        }
        levels = next
    }

    /// Pages that were written in so many rounds in a row, the last one included.
    private func pages(from heat: Int) -> [Range<UInt64>] {
        heat <= levels.count ? levels[heat - 1] : []
    }

    /// The hot pages, in order.
    package var hot: [Range<UInt64>] { pages(from: Self.hotFrom) }

    /// The pages among these that are not hot, at most `limit`: if there are more, the coldest of them.
    ///
    /// Hot ones that are held in no version yet count too: each has to go once, so that what changes later is a difference.
    func coldest(of pending: [Range<UInt64>], limit: Int, isHeld: (UInt64) -> Bool) -> [Range<UInt64>] {
        let heldHot = intersection(hot, pending).joined().filter(isHeld).map { $0..<$0 + 1 }
        let candidates = subtract(normalized(heldHot), from: pending)
        guard pageCount(candidates) > limit else { return candidates }
        var result: [Range<UInt64>] = []
        var (left, rest) = (limit, candidates)
        for heat in 1...Self.hotFrom where left > 0 {
            let colder = prefix(of: subtract(pages(from: heat), from: rest), pages: left)
            result += colder
            left -= pageCount(colder)
            rest = subtract(colder, from: rest)
        }
        return normalized(result + prefix(of: rest, pages: left))
    }

    /// Pages that were hot in the last round, hottest first: what a restored process will want first, too.
    package func hotSet(limit: Int) -> [UInt64] {
        var result: [UInt64] = []
        for heat in stride(from: levels.count, through: Self.hotFrom, by: -1) where result.count < limit {
            let pages = subtract(self.pages(from: heat + 1), from: pages(from: heat))
            result += pages.joined().prefix(limit - result.count)
        }
        return result
    }
}
