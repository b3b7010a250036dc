import Testing

@testable import BackingStore

@Suite("Pages behind a fault")
struct ReadAheadTests {
    /// Faults of a reader that goes through `pages` pages, of which those that came in cost none.
    private func faults(_ ahead: inout ReadAhead, through pages: StrideTo<UInt64>) -> Int {
        var (faults, end) = (0, UInt64(0))
        for page in pages where page >= end {
            faults += 1
            end = page + 1 + ahead.faulted(on: page)
        }
        return faults
    }

    @Test("are more and more for a process that reads in order, also in steps")
    func inOrder() {
        var ahead = ReadAhead(most: 32)
        #expect([0, 2, 5, 10, 19, 36, 69].map { ahead.faulted(on: $0) } == [1, 2, 4, 8, 16, 32, 32])
        var other = ReadAhead(most: 32)
        #expect(faults(&other, through: stride(from: 0, to: 33_000, by: 1)) < 1010)
        #expect(faults(&other, through: stride(from: 1 << 20, to: 1 << 20 + 33_000, by: 20)) < 1010)
    }

    @Test("are more and more for several at once, and forgotten with the ninth")
    func several() {
        var ahead = ReadAhead(most: 32)
        var places = (0..<8).map { UInt64($0) << 20 }
        for expected in [1, 2, 4, 8, 16, 32, 32] as [UInt64] {
            for i in places.indices {
                #expect(ahead.faulted(on: places[i]) == expected)
                places[i] += expected + 1
            }
        }
        #expect(ahead.faulted(on: 1 << 40) == 1)
        #expect(ahead.faulted(on: places[0]) == 1)
        #expect(ahead.faulted(on: places[7]) == 32)
    }

    @Test("is one where there is no order")
    func anywhere() {
        var ahead = ReadAhead(most: 32)
        // Far from each other, and back again.
        for i in 0..<1000 as Range<UInt64> { #expect(ahead.faulted(on: i * 7919 % 1000 * 1000) == 1) }
    }
}
