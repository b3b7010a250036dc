import Testing

@testable import BackingStore

@Suite("Page deltas between two stores")
struct PageDeltaTests {
    private func stores() throws -> (PageStore, PageStore) {
        (try .create(on: RecordedDisk(), seed: 1), try .create(on: RecordedDisk(), seed: 2))
    }

    private func send(
        _ pages: [UInt64: [UInt8]],
        from sender: PageStore,
        to receiver: PageStore,
        base: UInt64,
        parents: (PageStore, PageStore)? = nil,
        codec: PageDelta.Codec = .zstd(level: 3)
    ) throws -> Int {
        let numbers = pages.keys.sorted()
        let data = numbers.flatMap { pages[$0] ?? [] }
        let frame = try data.withUnsafeBytes {
            try PageDelta.encode(
                numbers,
                try #require($0.baseAddress),
                from: sender,
                baseEpoch: base,
                parent: parents?.0,
                codec: codec
            )
        }
        for number in numbers { try sender.put(number, try #require(pages[number])) }
        let count = try frame.withUnsafeBytes { try PageDelta.apply($0, to: receiver, parent: parents?.1) }.count
        #expect(count == pages.count)
        return frame.count
    }

    @Test(
        "Random epochs arrive as they were sent, with every codec",
        arguments: [
            PageDelta.Codec.none, .lz4, .zstd(level: 1), .zstd(level: 3),
        ]
    )
    func roundTrip(codec: PageDelta.Codec) throws {
        let (sender, receiver) = try stores()
        var generator = SeededGenerator(21)
        for epoch in 1...20 as ClosedRange<UInt64> {
            var pages: [UInt64: [UInt8]] = [:]
            for _ in 0..<30 {
                let page = UInt64.random(in: 0..<80, using: &generator)
                if var bytes = try sender.read(page), Bool.random(using: &generator) {
                    for _ in 0..<Int.random(in: 0..<40, using: &generator) {
                        bytes[Int.random(in: 0..<4096, using: &generator)] = .random(in: 0...255, using: &generator)
                    }
                    pages[page] = bytes
                } else {
                    pages[page] = makePage(&generator)
                }
            }
            _ = try send(pages, from: sender, to: receiver, base: epoch - 1, codec: codec)
            try sender.commit(epoch: epoch)
            try receiver.commit(epoch: epoch)
        }
        #expect(try sender.everything() == receiver.everything())
    }

    @Test("Sixteen changed bytes in each of 5000 pages cost less than 24 bytes a page")
    func smallChanges() throws {
        let (sender, receiver) = try stores()
        var generator = SeededGenerator(5)
        var pages: [UInt64: [UInt8]] = [:]
        for page in 0..<1000 as Range<UInt64> {
            pages[page] = (0..<512).flatMap { _ in withUnsafeBytes(of: generator.next()) { Array($0) } }
        }
        _ = try send(pages, from: sender, to: receiver, base: 0)
        try sender.commit(epoch: 1)
        try receiver.commit(epoch: 1)
        for page in pages.keys {
            let at = Int.random(in: 0..<255, using: &generator) * 16
            for i in at..<at + 16 { pages[page]![i] = UInt8.random(in: 0...255, using: &generator) }
        }
        let bytes = try send(pages, from: sender, to: receiver, base: 1)
        print("16 changed bytes a page: \(Double(bytes) / 1000) bytes a page on the wire")
        #expect(bytes < 24 * 1000)
        #expect(try sender.everything() == receiver.everything())
    }

    @Test("A receiver that holds another version refuses the frame whole, and says which page")
    func mismatch() throws {
        let (sender, receiver) = try stores()
        let first: [UInt64: [UInt8]] = [1: .init(repeating: 1, count: 4096), 2: .init(repeating: 2, count: 4096)]
        _ = try send(first, from: sender, to: receiver, base: 0)
        try sender.commit(epoch: 1)
        try receiver.put(2, [UInt8](repeating: 3, count: 4096))
        try receiver.commit(epoch: 1)
        var changed = first
        changed[1]![5] = 9
        changed[2]![5] = 9
        #expect { try send(changed, from: sender, to: receiver, base: 1) } throws: {
            ($0 as? PageStoreError)?.code == .mismatch
        }
        #expect(try receiver.read(1) == first[1])
    }

    @Test("A page changed since the receiver's epoch is sent whole")
    func laggingReceiver() throws {
        let (sender, receiver) = try stores()
        _ = try send([7: .init(repeating: 1, count: 4096)], from: sender, to: receiver, base: 0)
        try sender.commit(epoch: 1)
        try receiver.commit(epoch: 1)
        try sender.put(7, [UInt8](repeating: 2, count: 4096))
        try sender.commit(epoch: 2)
        _ = try send([7: .init(repeating: 3, count: 4096)], from: sender, to: receiver, base: 1)
        #expect(try receiver.read(7)?.first == 3)
    }

    @Test("A forked child's pages travel as references to its parent's")
    func sharedWithParent() throws {
        let (parent, parentCopy) = try stores()
        let (child, childCopy) = try stores()
        var generator = SeededGenerator(8)
        var pages: [UInt64: [UInt8]] = [:]
        for page in 0..<100 as Range<UInt64> {
            pages[page] = (0..<4096).map { _ in UInt8.random(in: 0...255, using: &generator) }
        }
        _ = try send(pages, from: parent, to: parentCopy, base: 0)
        let bytes = try send(pages, from: child, to: childCopy, base: 0, parents: (parent, parentCopy))
        #expect(bytes < 1000)
        #expect(try childCopy.everything() == pages)
    }

    @Test("Any damaged byte of a frame is refused")
    func damagedFrame() throws {
        let (sender, receiver) = try stores()
        let data = [UInt8](repeating: 5, count: 4096) + [UInt8](repeating: 6, count: 4096)
        let frame = try data.withUnsafeBytes {
            try PageDelta.encode([3, 4], $0.baseAddress!, from: sender, baseEpoch: 0, codec: .zstd(level: 3))
        }
        for i in frame.indices {
            var bad = frame
            bad[i] ^= 0x10
            #expect(throws: PageStoreError.self) {
                try bad.withUnsafeBytes { try PageDelta.apply($0, to: receiver) }
            }
            #expect(throws: PageStoreError.self) {
                try frame[..<i].withUnsafeBytes { try PageDelta.apply($0, to: receiver) }
            }
        }
        #expect(try receiver.everything().isEmpty)
    }
}
