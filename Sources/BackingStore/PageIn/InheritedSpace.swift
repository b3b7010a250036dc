/// Where the inherited memory of one process lies in the process that it is inherited from.
///
/// Pure.
/// A mapping is inherited whole, and its bounds are known only at the freeze. So it is not pages that have a place there,
/// but regions: all addresses from the first of some pages that lie near each other to the last, and some more.
package struct InheritedSpace: Sendable, Equatable {
    /// Pages further apart than this are in regions of their own: 64 MB.
    static let farthest: UInt64 = 16384
    /// What a region has before its first page and beyond its last, 16 MB each.
    ///
    /// A mapping has to be in it as a whole, with what nobody has touched, and may grow. It costs addresses only.
    static let more: UInt64 = 4096
    static let mostRegions = 256

    /// Addresses of the process, by page number, and where the first of them is.
    package struct Region: Sendable, Equatable {
        package let pages: Range<UInt64>
        /// Bytes.
        package let source: UInt64

        var addresses: Range<UInt64> { source..<source + UInt64(pages.count) * 4096 }
    }

    /// In order of address, disjoint.
    package private(set) var regions: [Region] = []
    /// Pages that are filled; the same sorted.
    private(set) var held: Set<UInt64> = []
    package private(set) var ranges: [Range<UInt64>] = []
    /// The epoch that they are of.
    var epoch: UInt64

    init(epoch: UInt64) {
        self.epoch = epoch
    }

    mutating func add(_ pages: [UInt64]) {
        let fresh = pages.filter { held.insert($0).inserted }
        guard !fresh.isEmpty else { return }
        ranges = normalized(ranges + normalized(fresh.map { $0..<$0 + 1 }))
    }

    mutating func remove(_ pages: [Range<UInt64>]) {
        for range in pages { held.subtract(range) }
        ranges = subtract(pages, from: ranges)
    }

    /// Whether any page of a range is filled.
    package func holdsAny(of pages: Range<UInt64>) -> Bool {
        let i = ranges.firstIndex(endingAfter: pages.lowerBound)
        return i < ranges.count && ranges[i].lowerBound < pages.upperBound
    }

    private func region(of page: UInt64) -> Region? {
        var (low, high) = (0, regions.count)
        while low < high {
            let middle = (low + high) / 2
            if regions[middle].pages.upperBound <= page { low = middle + 1 } else { high = middle }
        }
        return low < regions.count && regions[low].pages.contains(page) ? regions[low] : nil
    }

    /// Where a page is, bytes; nil where no region has it.
    func address(of page: UInt64) -> UInt64? {
        region(of: page).map { $0.source + (page - $0.pages.lowerBound) * 4096 }
    }

    /// Where pages are; each range lies in one region.
    func addresses(of ranges: [Range<UInt64>]) -> [Range<UInt64>] {
        ranges.flatMap { range in
            regions.filter { $0.pages.overlaps(range) }.map { region in
                let part = range.clamped(to: region.pages)
                let start = region.source + (part.lowerBound - region.pages.lowerBound) * 4096
                return start..<start + UInt64(part.count) * 4096
            }
        }
    }

    /// Makes regions for pages that have none; returns these.
    mutating func cover(_ pages: [UInt64], _ addresses: inout InheritedAddresses) -> [Region] {
        let missing = pages.filter { region(of: $0) == nil }.sorted()
        var groups: [Range<UInt64>] = []
        for page in missing {
            let isNear = groups.last.map { page - $0.upperBound < Self.farthest } ?? false
            // A region in between parts them, too.
            let isParted = groups.last.map { last in
                regions.contains { $0.pages.lowerBound >= last.upperBound && $0.pages.upperBound <= page }
            }
            if isNear, isParted != true, let last = groups.last {
                groups[groups.count - 1] = last.lowerBound..<page + 1
            } else {
                groups.append(page..<page + 1)
            }
        }
        var made: [Region] = []
        for (i, group) in groups.enumerated() where regions.count + made.count < Self.mostRegions {
            let others = (regions + made).map(\.pages)
            let low = others.map(\.upperBound).filter { $0 <= group.lowerBound }.max() ?? 0
            let next = i + 1 < groups.count ? [groups[i + 1].lowerBound] : []
            let high = (others.map(\.lowerBound) + next).filter { $0 >= group.upperBound }.min() ?? .max
            let start = max(low, group.lowerBound - min(group.lowerBound, Self.more))
            let pages = start..<min(high, group.upperBound + Self.more)
            made.append(Region(pages: pages, source: addresses.take(pages)))
        }
        regions = (regions + made).sorted { $0.pages.lowerBound < $1.pages.lowerBound }
        return made
    }
}

/// Gives out addresses in the process that memory is inherited from, which has nothing of its own there.
///
/// Pure.
struct InheritedAddresses: Sendable {
    /// Bytes; above what programs map by themselves, below where the kernel puts libraries and stacks.
    private var next: UInt64 = 1 << 44

    /// Page tables that cover 2 MB can be moved as they are where addresses agree in what is below that.
    private static let alignment: UInt64 = 2 << 20

    /// The address for the first of some pages.
    mutating func take(_ pages: Range<UInt64>) -> UInt64 {
        let offset = pages.lowerBound * 4096 % Self.alignment
        let start = next + offset
        let end = start + UInt64(pages.count) * 4096
        // Some room in between: two regions are two mappings.
        next = (end / Self.alignment + 2) * Self.alignment
        return start
    }
}

extension [Range<UInt64>] {
    /// In sorted, disjoint ranges, the first one that ends behind a page.
    func firstIndex(endingAfter page: UInt64) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if self[middle].upperBound <= page { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
