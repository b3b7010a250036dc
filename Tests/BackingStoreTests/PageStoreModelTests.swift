import Glibc
import Testing

@testable import BackingStore

@Suite("Page store against a plain model")
struct PageStoreModelTests {
    @Test("Random puts, drops, commits, roll-backs and re-opens give what the model gives", arguments: 1...12)
    func randomOperations(seed: Int) throws {
        let scratch = try ScratchDirectory()
        let path = scratch.file("model.pages")
        var generator = SeededGenerator(UInt64(seed))
        var store = try PageStore.create(at: path)
        var model = StoreModel()
        for step in 0..<1500 {
            let page = UInt64.random(in: 0..<700, using: &generator) * (seed % 3 == 0 ? 97 : 1)
            switch Int.random(in: 0..<100, using: &generator) {
            case 0..<70:
                var bytes = makePage(&generator)
                if Int.random(in: 0..<10, using: &generator) == 0, let other = model.pages.values.first {
                    bytes = other
                }
                try store.put(page, bytes)
                model.pages[page] = bytes
            case 70..<80:
                let end = page + UInt64.random(in: 0..<64, using: &generator)
                let dropped = try store.drop(page..<end)
                let expected = model.pages.keys.filter { $0 >= page && $0 < end }
                #expect(dropped == expected.count)
                for key in expected { model.pages[key] = nil }
            case 80..<82:
                let keep = page..<page + 400
                try store.retain([keep])
                model.pages = model.pages.filter { keep.contains($0.key) }
            case 82..<92:
                try store.commit(epoch: model.epoch + 1, durability: .process, quick: step % 3 == 0)
                model.commit(model.epoch + 1)
            case 92..<95:
                try store.compact(durability: .process)
            case 95..<97:
                try store.rollback()
                model.pages = model.committed
            case 97..<99:
                store = try PageStore.open(at: path)
                model.pages = model.committed
            default:
                #expect(try store.everything() == model.pages)
            }
            #expect(try store.read(page) == model.pages[page])
        }
        try store.commit(epoch: model.epoch + 1)
        #expect(try store.everything() == model.pages)
        #expect(try PageStore.open(at: path, readOnly: true).everything() == model.pages)
        #expect(store.statistics.pages == UInt64(model.pages.count))
    }

    @Test("Zero pages and duplicates take no data, equal pages change nothing")
    func elision() throws {
        let scratch = try ScratchDirectory()
        let store = try PageStore.create(at: scratch.file("a.pages"))
        var generator = SeededGenerator(1)
        let random = (0..<4096).map { _ in UInt8.random(in: 0...255, using: &generator) }
        #expect(try store.put(1, random) == .init(stored: 1))
        #expect(try store.put(2, random) == .init(duplicate: 1))
        #expect(try store.put(1, random) == .init(unchanged: 1))
        #expect(try store.put(3, [UInt8](repeating: 0, count: 4096)) == .init(zero: 1))
        #expect(try store.put(3, [UInt8](repeating: 0, count: 4096)) == .init(unchanged: 1))
        try store.commit(epoch: 1)
        #expect(store.statistics.contents == 1)
        #expect(store.statistics.zeroPages == 1)
        try store.put(1, [UInt8](repeating: 9, count: 4096))
        #expect(try store.read(2) == random)
        #expect(store.epoch(of: 1) == .max)
        try store.commit(epoch: 2)
        #expect(store.epoch(of: 1) == 2)
        #expect(store.epoch(of: 2) == 1)
        #expect(store.pages(changedAfter: 1, limit: 10) == [1])
    }

    @Test("Epoch numbers only grow, and a read-only store is not written")
    func misuse() throws {
        let scratch = try ScratchDirectory()
        let path = scratch.file("a.pages")
        let store = try PageStore.create(at: path)
        try store.put(1, [UInt8](repeating: 1, count: 4096))
        try store.commit(epoch: 5)
        try store.put(1, [UInt8](repeating: 2, count: 4096))
        #expect(throws: PageStoreError.self) { try store.commit(epoch: 5) }
        #expect(throws: PageStoreError.self) { try store.commit(epoch: 4) }
        try store.commit(epoch: 6)
        let reader = try PageStore.open(at: path, readOnly: true)
        #expect(throws: PageStoreError.self) { try reader.put(1, [UInt8](repeating: 3, count: 4096)) }
        #expect(throws: PageStoreError.self) { try store.put(1 << 52, [UInt8](repeating: 3, count: 4096)) }
    }

    @Test("The file stays below twice its live bytes while pages are rewritten in random order")
    func boundedSpace() throws {
        let scratch = try ScratchDirectory()
        let path = scratch.file("a.pages")
        let store = try PageStore.create(at: path)
        var generator = SeededGenerator(3)
        var model: [UInt64: UInt64] = [:]
        func content(_ page: UInt64, _ version: UInt64) -> [UInt8] {
            var inner = SeededGenerator(page &* 1_000_003 &+ version)
            return (0..<512).flatMap { _ in withUnsafeBytes(of: inner.next()) { Array($0) } }
        }
        for epoch in 1...60 as ClosedRange<UInt64> {
            for _ in 0..<(epoch == 1 ? 2000 : 300) {
                let page = epoch == 1 ? UInt64(model.count) : UInt64.random(in: 0..<2000, using: &generator)
                model[page] = epoch
                try store.put(page, content(page, epoch))
            }
            try store.commit(epoch: epoch, durability: .process)
            let statistics = store.statistics
            #expect(statistics.allocatedBytes <= 2 * statistics.liveBytes + (1 << 20))
            var status = stat()
            #expect(stat(path, &status) == 0)
            #expect(UInt64(status.st_blocks) * 512 <= 2 * statistics.liveBytes + (2 << 20))
        }
        let again = try PageStore.open(at: path, readOnly: true)
        for (page, version) in model { #expect(try again.read(page) == content(page, version)) }
    }

    @Test("Compaction in another thread, under a stream of writes and reads, loses nothing")
    func compactionUnderLoad() async throws {
        let scratch = try ScratchDirectory()
        let path = scratch.file("a.pages")
        let store = try PageStore.create(at: path)
        let expected = try await withThrowingTaskGroup(of: [UInt64: UInt8].self) { group in
            group.addTask {
                while store.statistics.epoch < 80 {
                    try store.compact(maxBytes: 256 << 10, durability: .process)
                    await Task.yield()
                }
                return [:]
            }
            group.addTask {
                var generator = SeededGenerator(11)
                var last: [UInt64: UInt8] = [:]
                for epoch in 1...80 as ClosedRange<UInt64> {
                    for _ in 0..<120 {
                        let page = UInt64.random(in: 0..<900, using: &generator)
                        var bytes = (0..<4096).map { _ in UInt8.random(in: 0...255, using: &generator) }
                        bytes[0] = UInt8(epoch)
                        last[page] = UInt8(epoch)
                        try store.put(page, bytes)
                        if let some = last.randomElement(using: &generator) {
                            #expect(try store.read(some.key)?.first == some.value)
                        }
                    }
                    try store.commit(epoch: epoch, durability: .process, quick: true)
                }
                return last
            }
            var result: [UInt64: UInt8] = [:]
            for try await part in group { result.merge(part) { $1 } }
            return result
        }
        let again = try PageStore.open(at: path)
        #expect(again.statistics.epoch == 80)
        for (page, first) in expected { #expect(try again.read(page)?.first == first) }
    }

    @Test("A store of 64 MB opens in milliseconds, with a checkpoint or with a tail of commits")
    func opensQuickly() throws {
        let scratch = try ScratchDirectory()
        let path = scratch.file("a.pages")
        let store = try PageStore.create(at: path)
        var generator = SeededGenerator(5)
        var block = [UInt64](repeating: 0, count: 512)
        for page in 0..<16384 as Range<UInt64> {
            for i in block.indices { block[i] = generator.next() }
            var number = page
            try block.withUnsafeBytes { bytes in
                _ = try withUnsafePointer(to: &number) { try store.put(.init(start: $0, count: 1), bytes.baseAddress!) }
            }
        }
        for epoch in 1...100 as ClosedRange<UInt64> {
            try store.put(epoch, [UInt8](repeating: UInt8(epoch), count: 4096))
            try store.commit(epoch: epoch, durability: .process, quick: epoch > 1)
        }
        let clock = ContinuousClock()
        var best = Duration.seconds(1)
        for _ in 0..<5 {
            let time = try clock.measure { _ = try PageStore.open(at: path, readOnly: true) }
            best = min(best, time)
        }
        print("open of 16384 pages, 100 commits: \(best)")
        #expect(best < .milliseconds(50))
    }
}
