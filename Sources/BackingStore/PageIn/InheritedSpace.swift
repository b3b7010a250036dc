/// Where the inherited memory of one process lies in the process that it is inherited from.
///
/// Pure. A mapping is inherited whole, and its bounds are known only at the freeze. So it is not pages that have a place there,
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
        package private(set) var pages: Range<UInt64>
        /// Bytes.
        package private(set) var source: UInt64
        /// Addresses that are kept for it, bytes.
        private let room: Range<UInt64>

        init(_ pages: Range<UInt64>, _ addresses: inout InheritedAddresses) {
            self.pages = pages
            (source, room) = addresses.take(pages)
        }

        var addresses: Range<UInt64> { source..<source + UInt64(pages.count) * 4096 }

        /// Has more pages before and behind as far as there is room; returns the addresses that it has more.
        mutating func extend(to wanted: Range<UInt64>) -> [Range<UInt64>] {
            let old = addresses
            let before = min(pages.lowerBound - wanted.lowerBound, (source - room.lowerBound) / 4096)
            let behind = min(wanted.upperBound - pages.upperBound, (room.upperBound - old.upperBound) / 4096)
            pages = pages.lowerBound - before..<pages.upperBound + behind
            source -= before * 4096
            return [source..<old.lowerBound, old.upperBound..<old.upperBound + behind * 4096].filter { !$0.isEmpty }
        }
    }

    /// In order of address, disjoint.
    package private(set) var regions: [Region] = []
    /// Pages that are filled, sorted.
    package private(set) var held: [Range<UInt64>] = []
    /// The epoch that they are of.
    var epoch: UInt64

    init(epoch: UInt64) {
        self.epoch = epoch
    }

    mutating func add(_ pages: [UInt64]) {
        held = normalized(held + pages.map { $0..<$0 + 1 })
    }

    mutating func remove(_ pages: [Range<UInt64>]) {
        held = subtract(pages, from: held)
    }

    /// Whether any page of a range is filled.
    package func holdsAny(of pages: Range<UInt64>) -> Bool { held.overlap(pages) }

    private func region(of page: UInt64) -> Region? {
        let i = regions.firstIndex(endingAfter: page, \.pages.upperBound)
        return i < regions.count && regions[i].pages.contains(page) ? regions[i] : nil
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

    /// Has pages, in order, in regions that are in none: near ones are extended, others made.
    ///
    /// Returns the addresses that are new.
    mutating func cover(_ pages: some Sequence<UInt64>, _ addresses: inout InheritedAddresses) -> [Range<UInt64>] {
        var made: [Range<UInt64>] = []
        for page in pages where region(of: page) == nil {
            let next = regions.firstIndex { $0.pages.lowerBound > page }
            let last = (next ?? regions.count) - 1
            // Slack ends where a neighbour begins.
            let low = last >= 0 ? regions[last].pages.upperBound : 0
            let high = next.map { regions[$0].pages.lowerBound } ?? .max
            let wanted = max(low, page - min(page, Self.more))..<min(high, page + 1 + Self.more)
            if last >= 0, page - low < Self.farthest {
                made += regions[last].extend(to: regions[last].pages.lowerBound..<wanted.upperBound)
            } else if let next, high - page < Self.farthest {
                made += regions[next].extend(to: wanted.lowerBound..<regions[next].pages.upperBound)
            }
            guard region(of: page) == nil, regions.count < Self.mostRegions else { continue }
            let region = Region(wanted, &addresses)
            regions.insert(region, at: last + 1)
            made.append(region.addresses)
        }
        return normalized(made)
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

    /// Addresses kept for each region, 64 GB: it may grow in both directions.
    private static let room: UInt64 = 64 << 30

    /// The address for the first of some pages, and the addresses around it that nobody else gets.
    mutating func take(_ pages: Range<UInt64>) -> (source: UInt64, room: Range<UInt64>) {
        let size = UInt64(pages.count) * 4096
        let room = next..<next + max(Self.room, (size / Self.alignment + 4) * Self.alignment)
        let spare = (room.upperBound - room.lowerBound - size) / 2 / Self.alignment * Self.alignment
        next = room.upperBound
        // Not to the very ends: two regions are two mappings.
        let source = room.lowerBound + spare + pages.lowerBound * 4096 % Self.alignment
        return (source, room.lowerBound + 4096..<room.upperBound - 4096)
    }
}
