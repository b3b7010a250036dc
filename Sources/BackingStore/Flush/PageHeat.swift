/// In how many of the latest rounds, without a gap, each page was written.
///
/// Pure.
///
/// What changes every round is sent in vain every round but the last: such pages are left for the cut.
package struct PageHeat: Sendable {
    /// From this many rounds in a row on, a page is hot.
    package static let hot: UInt8 = 3

    private var rounds: [UInt64: UInt8] = [:]

    /// No page has been seen.
    package init() {}

    /// Takes in one round's written pages.
    package mutating func finished(_ written: [Range<UInt64>]) {
        var next: [UInt64: UInt8] = [:]
        next.reserveCapacity(written.reduce(0) { $0 + $1.count })
        for range in written {
            for page in range { next[page] = min(rounds[page, default: 0], 254) + 1 }
        }
        rounds = next
    }

    /// Rounds in a row in which the page was written, the last one included.
    package func heat(of page: UInt64) -> UInt8 { rounds[page, default: 0] }

    /// The pages among these that are not hot, coldest first, as ranges in order.
    func coldest(of pending: [Range<UInt64>], limit: Int) -> [Range<UInt64>] {
        let candidates = pending.joined().map { ($0, heat(of: $0)) }.filter { $0.1 < Self.hot }
        let chosen = candidates.count <= limit ? candidates : Array(candidates.sorted { $0.1 < $1.1 }.prefix(limit))
        return normalized(chosen.map { $0.0..<$0.0 + 1 })
    }

    /// Pages that were hot in the last round, hottest first: what a restored process will want first, too.
    package func hotSet(limit: Int) -> [UInt64] {
        let hot = rounds.filter { $0.value >= Self.hot }
        return hot.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(limit).map(\.key)
    }
}
