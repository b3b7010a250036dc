import Glibc
import Testing

@testable import BackingStore

@Suite("Page store under crashes and damage")
struct PageStoreCrashTests {
    /// A short life of a store on a recorded disk, and what each epoch held.
    struct Life {
        var operations: [RecordedDisk.Operation] = []
        /// By epoch; 0 is empty.
        var epochs: [[UInt64: [UInt8]]] = [[:]]
        /// How many operations had been done when the epoch's commit returned.
        var acknowledged: [Int] = [0]
    }

    /// Small pages (compressible to a few bytes), so that every byte of the log can be a place to stop.
    private func live(seed: UInt64, epochs: Int, putsPerEpoch: Int, large: Bool = false) throws -> Life {
        let disk = RecordedDisk()
        let store = try PageStore.create(on: disk, seed: seed)
        var generator = SeededGenerator(seed)
        var life = Life()
        life.acknowledged[0] = disk.operations.count
        var pages: [UInt64: [UInt8]] = [:]
        for epoch in 1...epochs {
            for _ in 0..<putsPerEpoch {
                let page = UInt64.random(in: 0..<40, using: &generator)
                switch Int.random(in: 0..<8, using: &generator) {
                case 0:
                    try store.drop(page..<page + 3)
                    for key in page..<page + 3 { pages[key] = nil }
                default:
                    var bytes = [UInt8](repeating: UInt8.random(in: 0...5, using: &generator), count: 4096)
                    bytes[0] = UInt8.random(in: 0...255, using: &generator)
                    if large { for i in bytes.indices { bytes[i] = UInt8.random(in: 0...255, using: &generator) } }
                    try store.put(page, bytes)
                    pages[page] = bytes
                }
            }
            try store.commit(epoch: UInt64(epoch), quick: epoch % 4 == 0)
            life.epochs.append(pages)
            life.acknowledged.append(disk.operations.count)
        }
        life.operations = disk.operations
        return life
    }

    /// Opens what a crash left and compares with the epochs that may be there.
    private func verify(_ bytes: [UInt8], _ life: Life, oldest: Int, newest: Int, _ place: String) throws {
        let store = try PageStore.open(on: RecordedDisk(bytes))
        let epoch = Int(store.statistics.epoch)
        #expect((oldest...newest).contains(epoch), "epoch \(epoch) after a crash at \(place)")
        let held = try store.everything()
        #expect(held == life.epochs[epoch], "content of epoch \(epoch) after a crash at \(place)")
        // And the store goes on from there.
        try store.put(1, [UInt8](repeating: 77, count: 4096))
        try store.commit(epoch: UInt64(epoch) + 1)
        #expect(try store.read(1)?.first == 77)
    }

    @Test("A crash at every byte of every write leaves the last whole epoch", arguments: 1...3 as ClosedRange<UInt64>)
    func everyByte(seed: UInt64) throws {
        let life = try live(seed: seed, epochs: 6, putsPerEpoch: 5)
        var bytes: [UInt8] = []
        var epoch = 0
        for (i, operation) in life.operations.enumerated() {
            while epoch + 1 < life.acknowledged.count, life.acknowledged[epoch + 1] <= i { epoch += 1 }
            if i >= life.acknowledged[0] {
                var cuts = 1
                if case .write(_, let data) = operation { cuts = data.count }
                for cut in 0..<cuts {
                    var torn = bytes
                    RecordedDisk.apply(operation, to: &torn, limit: cut)
                    try verify(torn, life, oldest: epoch, newest: min(epoch + 1, 6), "operation \(i) byte \(cut)")
                }
            }
            RecordedDisk.apply(operation, to: &bytes)
        }
        try verify(bytes, life, oldest: 6, newest: 6, "the end")
    }

    @Test("Writes that reach the disk in another order, up to the next sync, leave the last whole epoch")
    func reordered() throws {
        for seed in 10..<40 as Range<UInt64> {
            let life = try live(seed: seed, epochs: 12, putsPerEpoch: 30, large: seed % 2 == 0)
            var generator = SeededGenerator(seed)
            for _ in 0..<40 {
                // From the first commit on: a store that never had one may be lost with its file.
                let stop = Int.random(in: life.acknowledged[1]..<life.operations.count, using: &generator)
                let epoch = life.acknowledged.lastIndex { $0 <= stop } ?? 0
                let lastSync = life.operations[..<stop].lastIndex { if case .sync = $0 { true } else { false } } ?? 0
                var bytes: [UInt8] = []
                for operation in life.operations[...lastSync] { RecordedDisk.apply(operation, to: &bytes) }
                for operation in life.operations[(lastSync + 1)..<max(stop, lastSync + 1)].shuffled(using: &generator)
                where Bool.random(using: &generator) {
                    RecordedDisk.apply(operation, to: &bytes, limit: Int.random(in: 0...9000, using: &generator))
                }
                try verify(bytes, life, oldest: epoch, newest: min(epoch + 1, 12), "seed \(seed), operation \(stop)")
            }
        }
    }

    @Test("A disk that fills up costs the epoch in progress, no more", arguments: [0, 100, 9000, 40000])
    func diskFull(space: Int) throws {
        let disk = RecordedDisk()
        let store = try PageStore.create(on: disk)
        var generator = SeededGenerator(2)
        try store.put(1, [UInt8](repeating: 1, count: 4096))
        try store.commit(epoch: 1)
        disk.space = space
        let pages = (2..<40).map { _ in (0..<4096).map { _ in UInt8.random(in: 0...255, using: &generator) } }
        // Told by whichever call is the first to find it.
        #expect {
            for (i, page) in pages.enumerated() { try store.put(UInt64(i) + 2, page) }
            try store.commit(epoch: 2)
        } throws: {
            ($0 as? PageStoreError)?.systemError == ENOSPC
        }
        #expect { try store.put(3, [UInt8](repeating: 1, count: 4096)) } throws: {
            ($0 as? PageStoreError)?.code == .broken
        }
        disk.space = .max
        try store.rollback()
        #expect(store.statistics.epoch == 1)
        #expect(try store.everything() == [1: [UInt8](repeating: 1, count: 4096)])
        try store.commit(epoch: 2)
    }

    @Test("Pages are written a few at a time, so that none waits behind many")
    func smallWrites() throws {
        let disk = RecordedDisk()
        let store = try PageStore.create(on: disk)
        var generator = SeededGenerator(3)
        for page in 0..<400 as Range<UInt64> {
            try store.put(page, (0..<4096).map { _ in UInt8.random(in: 0...255, using: &generator) })
        }
        let sizes = disk.operations.map { if case .write(_, let data) = $0 { data.count } else { 0 } }
        #expect(sizes.max() ?? 0 <= 64 << 10)
        #expect(sizes.reduce(0, +) > 300 * 4096)
    }

    @Test("A flipped bit anywhere is refused or harmless: nothing wrong is served")
    func bitFlips() throws {
        let life = try live(seed: 4, epochs: 5, putsPerEpoch: 6)
        var whole: [UInt8] = []
        for operation in life.operations { RecordedDisk.apply(operation, to: &whole) }
        let expected = life.epochs[5]
        var refused = 0
        for position in whole.indices {
            for bit in [0, 3, 7] {
                let disk = RecordedDisk(whole)
                disk.bytes[position] ^= 1 << UInt8(bit)
                do {
                    let store = try PageStore.open(on: disk, readOnly: true)
                    #expect(store.statistics.epoch == 5)
                    #expect(store.statistics.pages == UInt64(expected.count))
                    for (page, bytes) in expected { #expect(try store.read(page) == bytes, "byte \(position)") }
                } catch let error as PageStoreError {
                    refused += 1
                    #expect([.foreign, .corrupt, .truncated].contains(error.code), "byte \(position): \(error)")
                }
            }
        }
        #expect(refused > whole.count / 10)
    }

    @Test("Every truncation below the last epoch is refused")
    func truncation() throws {
        let life = try live(seed: 6, epochs: 5, putsPerEpoch: 6)
        var whole: [UInt8] = []
        for operation in life.operations { RecordedDisk.apply(operation, to: &whole) }
        for length in 0..<whole.count {
            let disk = RecordedDisk(Array(whole[..<length]))
            #expect { try PageStore.open(on: disk) } throws: {
                [.foreign, .truncated].contains(($0 as? PageStoreError)?.code)
            }
        }
    }

    @Test("Damage to a page's data names the page and the offset, and leaves the other pages readable")
    func namesThePage() throws {
        let disk = RecordedDisk()
        let store = try PageStore.create(on: disk)
        var generator = SeededGenerator(9)
        for page in 0..<50 as Range<UInt64> {
            try store.put(page, (0..<4096).map { _ in UInt8.random(in: 0...255, using: &generator) })
        }
        try store.commit(epoch: 1)
        let offset = 4096 + 20 * (4096 + 32)
        disk.bytes[offset + 1000] ^= 1
        let again = try PageStore.open(on: disk)
        #expect { try again.read(20) } throws: {
            let error = $0 as? PageStoreError
            return error?.code == .corrupt && error?.page == 20 && error?.offset == UInt64(offset)
        }
        #expect(try again.read(19) != nil)
    }

    @Test("Foreign files, and records of another store, are refused")
    func foreign() throws {
        #expect { try PageStore.open(on: RecordedDisk([UInt8](repeating: 65, count: 9000))) } throws: {
            ($0 as? PageStoreError)?.code == .foreign
        }
        #expect { try PageStore.open(on: RecordedDisk([])) } throws: { ($0 as? PageStoreError)?.code == .foreign }
        let disks = try ([1, 2] as [UInt64]).map { seed in
            let disk = RecordedDisk()
            let store = try PageStore.create(on: disk, seed: seed)
            try store.put(1, [UInt8](repeating: UInt8(seed), count: 4096))
            try store.commit(epoch: 1)
            return disk
        }
        disks[0].bytes.replaceSubrange(4096..., with: disks[1].bytes[4096...])
        #expect { try PageStore.open(on: disks[0]) } throws: { ($0 as? PageStoreError)?.code == .corrupt }
    }
}
