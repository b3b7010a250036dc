/// Which pages of a process are still to be served, and from which page of its backing file.
///
/// Pages start out at the address they were saved under; mremap moves them. Pure.
struct PageExtents: Sendable, Equatable {
    struct Extent: Sendable, Equatable {
        /// First page number in the process.
        var start: UInt64
        var count: UInt64
        /// Page number in the backing file of `start`.
        var source: UInt64

        var end: UInt64 { start + count }
    }

    /// In order of address, disjoint.
    private(set) var extents: [Extent] = []
    /// What mremap has moved away from, until the kernel says that it was unmapped there.
    private(set) var left: [Range<UInt64>] = []

    /// The given page numbers (ascending), each served from itself.
    init(pages: some Sequence<UInt64>) {
        for page in pages {
            if let last = extents.last, last.end == page {
                extents[extents.count - 1].count += 1
            } else {
                extents.append(Extent(start: page, count: 1, source: page))
            }
        }
    }

    /// What is left for a child that has just been forked: it has what its parent has.
    ///
    /// The parent alone will hear of what its moves have left.
    var forked: PageExtents {
        var child = self
        child.left = []
        return child
    }

    /// Takes in what a process has done to its memory.
    mutating func apply(_ change: PageJournal.Change) {
        switch change {
        case .removed(let range): remove(range)
        case .moved(let range, let start): move(range, to: start)
        case .unmapped(let range): unmap(range)
        }
    }

    var isEmpty: Bool { extents.isEmpty }

    /// Pages left.
    var count: UInt64 { extents.reduce(0) { $0 + $1.count } }

    private func index(endingAfter page: UInt64) -> Int { extents.firstIndex(endingAfter: page, \.end) }

    /// Where in the backing file a page's content is; nil if the page is not there to be served.
    func source(of page: UInt64) -> UInt64? {
        let i = index(endingAfter: page)
        guard i < extents.count, extents[i].start <= page else { return nil }
        return extents[i].source + (page - extents[i].start)
    }

    /// The first pages from `page` on that lie together: at most `limit`; nil behind the last.
    func run(from page: UInt64, limit: UInt64) -> Extent? {
        let i = index(endingAfter: page)
        guard i < extents.count else { return nil }
        let skipped = page > extents[i].start ? page - extents[i].start : 0
        return Extent(
            start: extents[i].start + skipped,
            count: min(limit, extents[i].count - skipped),
            source: extents[i].source + skipped
        )
    }

    /// Takes out a range of pages and returns what was there.
    @discardableResult
    mutating func remove(_ range: Range<UInt64>) -> [Extent] {
        var removed: [Extent] = []
        var kept: [Extent] = []
        let first = index(endingAfter: range.lowerBound)
        var last = first
        while last < extents.count, extents[last].start < range.upperBound {
            let extent = extents[last]
            let from = max(extent.start, range.lowerBound)
            let to = min(extent.end, range.upperBound)
            if extent.start < from {
                kept.append(Extent(start: extent.start, count: from - extent.start, source: extent.source))
            }
            removed.append(Extent(start: from, count: to - from, source: extent.source + (from - extent.start)))
            if to < extent.end {
                kept.append(Extent(start: to, count: extent.end - to, source: extent.source + (to - extent.start)))
            }
            last += 1
        }
        extents.replaceSubrange(first..<last, with: kept)
        return removed
    }

    /// Takes out many ranges, sorted and disjoint, at once.
    mutating func remove(_ ranges: [Range<UInt64>]) {
        var i = 0
        extents = subtract(ranges, from: extents.map { $0.start..<$0.end }).map { piece in
            while extents[i].end <= piece.lowerBound { i += 1 }
            let skipped = piece.lowerBound - extents[i].start
            return Extent(start: piece.lowerBound, count: UInt64(piece.count), source: extents[i].source + skipped)
        }
    }

    /// Takes out a range that was unmapped, unless it is the one that a move has left.
    ///
    /// The kernel tells of that one after the move, when another thread may have moved pages of its own to the same
    /// address, and may have been heard of already.
    mutating func unmap(_ range: Range<UInt64>) {
        if let i = left.firstIndex(of: range) {
            left.remove(at: i)
        } else {
            remove(range)
        }
    }

    /// Moves pages to another address, as mremap does; what was at the new address is gone.
    mutating func move(_ range: Range<UInt64>, to start: UInt64) {
        let moved = remove(range)
        remove(start..<start + UInt64(range.count))
        left.append(range)
        for extent in moved {
            let place = start + (extent.start - range.lowerBound)
            extents.insert(
                Extent(start: place, count: extent.count, source: extent.source),
                at: index(endingAfter: place)
            )
        }
    }
}

extension Array {
    /// The index of the first of sorted, disjoint ranges of pages that ends behind a page; `end` is the page behind one.
    func firstIndex(endingAfter page: UInt64, _ end: (Element) -> UInt64) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if end(self[middle]) <= page { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

extension [Range<UInt64>] {
    /// Whether any page of a range is in these sorted, disjoint ones.
    func overlap(_ pages: Range<UInt64>) -> Bool {
        let i = firstIndex(endingAfter: pages.lowerBound, \.upperBound)
        return i < count && self[i].lowerBound < pages.upperBound
    }
}
