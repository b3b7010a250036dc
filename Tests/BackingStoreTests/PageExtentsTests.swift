import Testing

@testable import BackingStore

@Suite("Pages still to be served")
struct PageExtentsTests {
    @Test("Random removals and moves give what a dictionary gives", arguments: 1...20 as ClosedRange<UInt64>)
    func model(seed: UInt64) {
        var generator = SeededGenerator(seed)
        let pages = (0..<300 as Range<UInt64>).filter { _ in Int.random(in: 0..<3, using: &generator) > 0 }
        var extents = PageExtents(pages: pages)
        var model = Dictionary(uniqueKeysWithValues: pages.map { ($0, $0) })
        for _ in 0..<100 {
            let start = UInt64.random(in: 0..<320, using: &generator)
            let range = start..<start + UInt64.random(in: 1..<20, using: &generator)
            switch Int.random(in: 0..<3, using: &generator) {
            case 0:
                extents.remove(range)
                model = model.filter { !range.contains($0.key) }
            case 1:
                // Several at once, in order.
                let ranges = [
                    range, range.upperBound + 3..<range.upperBound + 4, range.upperBound + 9..<range.upperBound + 30,
                ]
                .prefix(Int.random(in: 1...3, using: &generator))
                extents.remove(Array(ranges))
                model = model.filter { page in !ranges.contains { $0.contains(page.key) } }
            default:
                let target = UInt64.random(in: 0..<600, using: &generator)
                guard target >= range.upperBound || target + UInt64(range.count) <= range.lowerBound else { continue }
                let moved = model.filter { range.contains($0.key) }
                let place = target..<target + UInt64(range.count)
                model = model.filter { !range.contains($0.key) && !place.contains($0.key) }
                for (page, source) in moved { model[target + (page - range.lowerBound)] = source }
                extents.move(range, to: target)
            }
            #expect(extents.count == UInt64(model.count))
            for page in 0..<700 as Range<UInt64> { #expect(extents.source(of: page) == model[page]) }
        }
        var left = model
        var cursor: UInt64 = 0
        while let run = extents.run(from: cursor, limit: 7) {
            #expect(run.count <= 7)
            for i in 0..<run.count { #expect(left.removeValue(forKey: run.start + i) == run.source + i) }
            cursor = run.end
        }
        #expect(left.isEmpty)
    }

    @Test("News of what a move has left does not take away what another thread has moved there since")
    func unmapAfterMove() {
        var extents = PageExtents(pages: 0..<20)
        extents.move(0..<4, to: 100)
        extents.move(8..<12, to: 0)
        extents.unmap(0..<4)
        #expect(extents.source(of: 0) == 8)
        #expect(extents.left == [8..<12])
        // A child hears of what was unmapped in itself only.
        var child = extents.forked
        child.unmap(8..<12)
        #expect(child.left.isEmpty && child.source(of: 0) == 8)
        // The news of one move is one.
        extents.unmap(0..<4)
        #expect(extents.source(of: 0) == nil)
        extents.unmap(9..<10)
        #expect(extents.left == [8..<12])
    }
}
