import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import BackingStore

/// The process that memory is inherited from, as plainly as can be: addresses and bytes.
private final class PlainProcess: InheritingProcess {
    struct State {
        var mapped: [Range<UInt64>] = []
        var pages: [UInt64: [UInt8]] = [:]
        var fails = false
    }

    let state = Mutex(State())
    let bytes: Int64

    init(bytes: Int64 = 1 << 30) {
        self.bytes = bytes
    }

    private func changing(_ body: (inout State) throws -> Void) throws {
        try state.withLock { state in
            if state.fails { throw SyscallError("write", code: EPIPE) }
            try body(&state)
        }
    }

    func map(_ ranges: [Range<UInt64>]) throws {
        try changing { state in
            for range in ranges {
                #expect(!state.mapped.contains { $0.overlaps(range) }, "mapped twice")
                state.mapped.append(range)
            }
        }
    }

    func drop(_ ranges: [Range<UInt64>]) throws {
        try changing { state in
            for range in ranges {
                for address in stride(from: range.lowerBound, to: range.upperBound, by: 4096) {
                    state.pages[address] = nil
                }
            }
        }
    }

    func write(_ addresses: [UInt64], _ data: UnsafeRawPointer) throws {
        try changing { state in
            for (i, address) in addresses.enumerated() {
                #expect(state.mapped.contains { $0.contains(address) }, "written where nothing is mapped")
                state.pages[address] = Array(UnsafeRawBufferPointer(start: data + i * 4096, count: 4096))
            }
        }
    }

    func letGo() {}

    /// What the process's heir finds in its pages.
    func pages(_ space: InheritedSpace) -> [UInt64: [UInt8]] {
        state.withLock { state in
            var found: [UInt64: [UInt8]] = [:]
            for region in space.regions {
                for (i, page) in region.pages.enumerated() {
                    if let bytes = state.pages[region.source + UInt64(i) * 4096] { found[page] = bytes }
                }
            }
            return found
        }
    }
}

@Suite("Memory that is inherited")
struct InheritedMemoryTests {
    private func source(
        _ stores: [Int32: PageStore],
        hot: [UInt64] = [],
        except: [Range<UInt64>] = []
    ) -> InheritedMemory.Source {
        InheritedMemory.Source(stores: stores, hot: [1: hot], except: [1: except])
    }

    @Test("is what the backing files hold of an epoch, whatever came, changed or went", arguments: 1...8)
    func epochs(seed: UInt64) throws {
        let scratch = try ScratchDirectory()
        var random = SeededGenerator(seed)
        let process = PlainProcess()
        let memory = InheritedMemory(process)
        var stores: [Int32: PageStore] = [:]
        for epoch in UInt64(1)...40 {
            let number = Int32.random(in: 1...3, using: &random)
            let store = try stores[number] ?? PageStore.create(at: scratch.file("\(number).pages"))
            stores[number] = store
            for _ in 0..<Int.random(in: 0..<30, using: &random) {
                // Three places, far from each other.
                let base = UInt64.random(in: 0..<3, using: &random) << 20
                try store.put(base + UInt64.random(in: 0..<60, using: &random), makePage(&random))
            }
            let gone = UInt64.random(in: 0..<60, using: &random)
            _ = try store.drop(gone..<gone + UInt64.random(in: 1...8, using: &random))
            try store.commit(epoch: epoch, durability: .process)
            if epoch % 17 == 0 { stores[number] = nil }
            let late = UInt64.random(in: 0..<60, using: &random)
            let except = [late..<late + 5]
            memory.fill(from: source(stores, except: except), epoch: epoch, grows: epoch % 3 != 0)
            for (number, space) in memory.spaces(of: epoch) {
                let store = try #require(stores[number])
                let found = process.pages(space)
                #expect(Set(found.keys) == Set(space.held.joined()), "epoch \(epoch)")
                for (page, bytes) in found {
                    #expect(try store.read(page) == bytes, "epoch \(epoch), process \(number), page \(page)")
                    #expect(number != 1 || !except[0].contains(page))
                }
            }
        }
    }

    @Test("is none of an epoch that was not filled, or where something has failed")
    func failure() throws {
        let scratch = try ScratchDirectory()
        var random = SeededGenerator(7)
        let process = PlainProcess()
        let memory = InheritedMemory(process)
        let store = try PageStore.create(at: scratch.file("a.pages"))
        try store.put(5, makePage(&random))
        try store.commit(epoch: 1, durability: .process)
        memory.fill(from: source([1: store]), epoch: 1, grows: true)
        #expect(memory.spaces(of: 1)[1]?.held == [5..<6])
        #expect(memory.spaces(of: 2).isEmpty)
        process.state.withLock { $0.fails = true }
        try store.put(5, makePage(&random))
        try store.commit(epoch: 2, durability: .process)
        memory.fill(from: source([1: store]), epoch: 2, grows: true)
        process.state.withLock { $0.fails = false }
        memory.fill(from: source([1: store]), epoch: 2, grows: true)
        #expect(memory.spaces(of: 2).isEmpty)
    }

    @Test("is all, or, where that is too much, what is wanted first and what changed last")
    func choice() throws {
        let scratch = try ScratchDirectory()
        let store = try PageStore.create(at: scratch.file("a.pages"))
        var random = SeededGenerator(3)
        let all = (0..<100).map { UInt64($0) }
        for page in all { try store.put(page, makePage(&random)) }
        try store.commit(epoch: 1, durability: .process)
        for page in all[50..<60] { try store.put(page, [UInt8](repeating: 9, count: 4096)) }
        try store.commit(epoch: 2, durability: .process)
        let memory = InheritedMemory(PlainProcess(bytes: 20 * 4096))
        memory.fill(from: source([1: store]), epoch: 2, grows: true)
        #expect(memory.spaces(of: 2)[1]?.held == [50..<60])
        #expect(InheritedMemory.choose(from: store, hot: [], room: 200) == [0..<100])
        let chosen = InheritedMemory.choose(from: store, hot: [99, 98, 300], room: 20)
        #expect(chosen == [50..<60, 98..<100])
        #expect(InheritedMemory.choose(from: store, hot: all.reversed(), room: 3) == [97..<100])
    }

    @Test("has each of its regions once, with what is near in one of them, and what is far in others")
    func regions() {
        var addresses = InheritedAddresses()
        var space = InheritedSpace(epoch: 1)
        let far = 1_000_000 + InheritedSpace.farthest * 2
        let made = space.cover([1_000_000, 1_000_100, far], &addresses)
        #expect(made.count == 2)
        #expect(space.address(of: 1_000_050) == space.address(of: 1_000_000).map { $0 + 50 * 4096 })
        // Addresses agree in what is below 2 MB, so that page tables can be moved.
        #expect(space.address(of: far).map { $0 % (2 << 20) } == far * 4096 % (2 << 20))
        #expect(space.address(of: 1_000_000 - InheritedSpace.more) != nil)
        #expect(space.address(of: 1_000_000 - InheritedSpace.more - 1) == nil)
        // What comes later is in the same region where it is near, before it or behind, and where a mapping may end.
        let more = space.cover([990_000, 1_000_101 + InheritedSpace.more], &addresses)
        #expect(more.count == 2 && space.regions.count == 2)
        #expect(space.regions[0].pages == 990_000 - InheritedSpace.more..<1_000_102 + InheritedSpace.more * 2)
        for page in [1_000_000, 990_000, 1_000_101 + InheritedSpace.more] {
            #expect(space.address(of: page).map { $0 % (2 << 20) } == page * 4096 % (2 << 20))
        }
        for (a, b) in zip(space.regions, space.regions.dropFirst()) {
            #expect(a.pages.upperBound <= b.pages.lowerBound)
        }
        let places = space.regions.map(\.addresses).sorted { $0.lowerBound < $1.lowerBound }
        for (a, b) in zip(places, places.dropFirst()) { #expect(a.upperBound < b.lowerBound) }
        #expect(space.cover([1_000_000, far], &addresses).isEmpty)
    }
}
