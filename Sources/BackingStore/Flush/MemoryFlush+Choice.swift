/// Which of the pending pages a round takes.
extension MemoryFlush {
    /// Pages that a sample takes, at most: one frame.
    private static let sampled = ProcessMemoryReader.batch

    func choose(
        _ process: ProcessDirty,
        _ kind: Kind,
        limit: Int,
        spacing: Int,
        few: inout Int
    ) -> [Range<UInt64>] {
        guard let flow = flows[process.key] else { return [] }
        switch kind {
        case .live, .backlog: return flow.heat.coldest(of: flow.pending, limit: limit, isHeld: flow.store.holds)
        case .last: return prefix(of: flow.pending, pages: limit)
        case .cold: return prefix(of: flow.owed, pages: limit)
        case .sample: return everyNth(of: flow.pending, spacing)
        case .cut: return flow.pending
        case .lateCut:
            let late = LateChoice.late(flow.pending, of: process, few: &few)
            // A page that was written and then dropped need not be read: it is not there any more.
            let there = intersection(flow.pending, process.present ?? flow.pending)
            flows[process.key]?.pending = there
            return subtract(late, from: there)
        }
    }

    /// From now on cold rounds owe what is pending and not hot; of a process that is met later, nothing.
    func oweWhatIsCold() {
        for (key, flow) in flows {
            flows[key]?.owed = flow.heat.coldest(of: flow.pending, limit: .max, isHeld: flow.store.holds)
        }
    }

    /// Of how many pending pages one belongs to a sample.
    var sampleSpacing: Int {
        max(1, flows.values.reduce(0) { $0 + pageCount($1.pending) } / Self.sampled)
    }

    /// The pages of frozen processes, for what is still missing elsewhere of the epoch after `epoch`.
    package func frozenPages(after epoch: UInt64) -> FrozenPages {
        let sources = flows.map { key, flow in
            FrozenPages.Source(hostPid: key.pid, inner: flow.inner, store: flow.store)
        }
        return FrozenPages(sources, after: epoch, codec: codec)
    }
}

/// Which pages of a cut may follow it.
///
/// Pure.
enum LateChoice {
    /// Of a mapping with no more pending pages than this they go with the cut: stacks and globals are wanted at once,
    /// and little of them has changed.
    private static let few = 8
    /// Pages that go with the cut for that reason, of all processes.
    static let mostWithCut = 64

    /// The pending pages that can come by page fault after the restore: anonymous, and not code.
    ///
    /// Pages over files come from CRIU's images, and so are not late. `few` is how many pages may still go with the cut
    /// because their mapping has few.
    static func late(_ pending: [Range<UInt64>], of process: ProcessDirty, few left: inout Int) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        var next = 0
        for mapping in process.mappings where mapping.isPrivate && mapping.inode == 0 && !mapping.isExecutable {
            let pages = mapping.range.lowerBound / 4096..<mapping.range.upperBound / 4096
            while next < pending.count, pending[next].upperBound <= pages.lowerBound { next += 1 }
            var part: [Range<UInt64>] = []
            var i = next
            while i < pending.count, pending[i].lowerBound < pages.upperBound {
                part.append(pending[i].clamped(to: pages))
                i += 1
            }
            let count = pageCount(part)
            if count <= Self.few, count <= left { left -= count } else { result += part }
        }
        return intersection(result, process.present ?? result)
    }
}

/// The number of pages in ranges.
package func pageCount(_ ranges: [Range<UInt64>]) -> Int {
    ranges.reduce(0) { $0 + $1.count }
}

/// Pages that are in both of two sorted, disjoint lists of ranges.
package func intersection(_ a: [Range<UInt64>], _ b: [Range<UInt64>]) -> [Range<UInt64>] {
    var result: [Range<UInt64>] = []
    var (i, j) = (0, 0)
    while i < a.count, j < b.count {
        let start = max(a[i].lowerBound, b[j].lowerBound)
        let end = min(a[i].upperBound, b[j].upperBound)
        if start < end { result.append(start..<end) }
        if a[i].upperBound < b[j].upperBound { i += 1 } else { j += 1 }
    }
    return result
}

/// One page of every so many, in order.
func everyNth(of ranges: [Range<UInt64>], _ spacing: Int) -> [Range<UInt64>] {
    var result: [Range<UInt64>] = []
    var skip: UInt64 = 0
    for range in ranges {
        var page = range.lowerBound + skip
        while page < range.upperBound {
            result.append(page..<page + 1)
            page += UInt64(spacing)
        }
        skip = page - range.upperBound
    }
    return normalized(result)
}

/// The first so many pages of sorted, disjoint ranges.
func prefix(of ranges: [Range<UInt64>], pages limit: Int) -> [Range<UInt64>] {
    var left = UInt64(max(0, limit))
    var result: [Range<UInt64>] = []
    for range in ranges where left > 0 {
        let end = min(range.upperBound, range.lowerBound + min(left, UInt64(range.count)))
        left -= end - range.lowerBound
        result.append(range.lowerBound..<end)
    }
    return result
}

/// Pages of sorted, disjoint ranges that are not in others.
func subtract(_ removed: [Range<UInt64>], from ranges: [Range<UInt64>]) -> [Range<UInt64>] {
    var result: [Range<UInt64>] = []
    var next = 0
    for range in ranges {
        var start = range.lowerBound
        while next < removed.count, removed[next].upperBound <= start { next += 1 }
        var i = next
        while i < removed.count, removed[i].lowerBound < range.upperBound {
            if start < removed[i].lowerBound { result.append(start..<removed[i].lowerBound) }
            start = max(start, removed[i].upperBound)
            i += 1
        }
        if start < range.upperBound { result.append(start..<range.upperBound) }
    }
    return result
}
