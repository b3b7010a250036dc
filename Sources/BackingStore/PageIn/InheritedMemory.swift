import LinuxSystem
import Synchronization

/// A process that waits for the restore, and whose forks the restored processes will be: memory in it is theirs.
package protocol InheritingProcess: AnyObject, Sendable {
    /// How much it may have, bytes.
    var bytes: Int64 { get }
    /// Maps ranges of addresses, in bytes.
    func map(_ ranges: [Range<UInt64>]) throws
    /// Drops what is in ranges of addresses.
    func drop(_ ranges: [Range<UInt64>]) throws
    /// Writes pages, one after the other in `data`, to addresses.
    func write(_ addresses: [UInt64], _ data: UnsafeRawPointer) throws
    /// Lets it end: the restored processes need not share memory with it any more.
    func letGo()
}

/// Private memory on the host that will restore an SMI, filled from a replica before the freeze and inherited by the
/// restored processes: they have it when they go on, and nothing has to come in.
///
/// Inheriting copies page tables, within the freeze and once for the process and each of its ancestors, so that only so
/// much is filled: all of it, or what the processes will want first and what changed last.
package final class InheritedMemory: Sendable {
    /// Pages filled at most, 72 MB: a fork copies the page table of as many in some 2 ms.
    static let most = 18432
    /// Pages read and written at a time.
    private static let batch = 128

    private let process: any InheritingProcess
    private let state = Mutex(State())

    private struct State {
        var spaces: [Int32: InheritedSpace] = [:]
        var addresses = InheritedAddresses()
        /// The epoch of which all of it is; nil where nothing can be said.
        var epoch: UInt64?
        /// Something has failed: what is there now is not known.
        var isGivenUp = false
    }

    /// Nothing is filled yet.
    package init(_ process: any InheritingProcess) {
        self.process = process
    }

    /// Whether it is what the forks of a process will inherit.
    package func isFor(_ process: (any InheritingProcess)?) -> Bool { self.process === process }

    /// What is in the backing files of an epoch, and what is not to be filled from them.
    package struct Source {
        let stores: [Int32: PageStore]
        let hot: [Int32: [UInt64]]
        /// Pages whose newest version has not come, or that come another way.
        let except: [Int32: [Range<UInt64>]]

        /// Backing files without pending changes.
        package init(stores: [Int32: PageStore], hot: [Int32: [UInt64]], except: [Int32: [Range<UInt64>]]) {
            self.stores = stores
            self.hot = hot
            self.except = except
        }
    }

    /// Brings what is filled to an epoch; `grows` where there is time to fill more.
    ///
    /// Blocks. If anything fails, nothing is inherited.
    package func fill(from source: Source, epoch: UInt64, grows: Bool) {
        state.withLock { state in
            guard !state.isGivenUp else { return }
            do {
                state.epoch = nil
                try update(&state, source, grows)
                state.epoch = epoch
            } catch {
                state.isGivenUp = true
                state.spaces = [:]
            }
        }
    }

    /// What each process can inherit of an epoch: nothing where what is filled is of another.
    package func spaces(of epoch: UInt64) -> [Int32: InheritedSpace] {
        state.withLock { $0.epoch == epoch ? $0.spaces.filter { !$0.value.held.isEmpty } : [:] }
    }

    /// The restored processes are tracked: what they share with the process that they come from is of no use any more.
    package func letGo() {
        process.letGo()
    }

    private func update(_ state: inout State, _ source: Source, _ grows: Bool) throws {
        for (number, space) in state.spaces where source.stores[number] == nil {
            try process.drop(space.addresses(of: space.held))
            state.spaces[number] = nil
        }
        let filled = state.spaces.values.reduce(0) { $0 + pageCount($1.held) }
        var room = grows ? max(0, min(Self.most, Int(clamping: process.bytes / 4096)) - filled) : 0
        for (number, store) in source.stores.sorted(by: { $0.key < $1.key }) where !SharedNumber.isShared(number) {
            let except = source.except[number] ?? []
            if var space = state.spaces[number] {
                let dropped = try refresh(&space, store, except)
                room += grows ? dropped : 0
                let changed = store.pages(changedAfter: space.epoch, limit: Int(store.statistics.pages))
                let pages = normalized(changed.map { $0..<$0 + 1 })
                try write(intersection(pages, space.held), of: store, &space)
                room -= try add(subtract(space.held, from: pages), room, except, store, &space, &state.addresses)
                space.epoch = store.statistics.epoch
                state.spaces[number] = space
            } else if room > 0 {
                var space = InheritedSpace(epoch: store.statistics.epoch)
                let pages = Self.choose(from: store, hot: source.hot[number] ?? [], room: room)
                room -= try add(pages, room, except, store, &space, &state.addresses)
                state.spaces[number] = space
            }
        }
    }

    /// Drops pages that are gone or come another way; returns how many.
    private func refresh(_ space: inout InheritedSpace, _ store: PageStore, _ except: [Range<UInt64>]) throws -> Int {
        let absent = store.absent(of: Array(space.held.joined()))
        let gone = normalized(absent.map { $0..<$0 + 1 } + intersection(space.held, except))
        guard !gone.isEmpty else { return 0 }
        try process.drop(space.addresses(of: gone))
        space.remove(gone)
        return pageCount(gone)
    }

    /// Fills pages that are not yet, as many as there is room for; returns how many.
    private func add(
        _ pages: [Range<UInt64>],
        _ room: Int,
        _ except: [Range<UInt64>],
        _ store: PageStore,
        _ space: inout InheritedSpace,
        _ addresses: inout InheritedAddresses
    ) throws -> Int {
        let wanted = prefix(of: subtract(except, from: pages), pages: room)
        guard !wanted.isEmpty else { return 0 }
        try process.map(space.cover(wanted.joined(), &addresses))
        // What lies where no region could be made stays away.
        let covered = intersection(wanted, space.regions.map(\.pages))
        try write(covered, of: store, &space)
        return pageCount(covered)
    }

    private func write(_ ranges: [Range<UInt64>], of store: PageStore, _ space: inout InheritedSpace) throws {
        let pages = Array(ranges.joined())
        let buffer = UnsafeMutableRawPointer.allocate(
            byteCount: Self.batch * PageStore.pageSize,
            alignment: PageStore.pageSize
        )
        defer { buffer.deallocate() }
        for first in stride(from: 0, to: pages.count, by: Self.batch) {
            let some = pages[first..<min(first + Self.batch, pages.count)]
            for (i, page) in some.enumerated() where try !store.read(page, into: buffer + i * PageStore.pageSize) {
                throw PageInError(pid: 0, page: page, cause: "the backing file has lost a page that it listed")
            }
            try process.write(some.compactMap(space.address(of:)), buffer)
        }
        space.add(pages)
    }

    /// All pages, or, where there are more than there is room for, some of those that are wanted most.
    static func choose(from store: PageStore, hot: [UInt64], room: Int) -> [Range<UInt64>] {
        let statistics = store.statistics
        var chosen: [UInt64]
        if statistics.pages <= UInt64(room) {
            chosen = store.pages(limit: Int(statistics.pages))
        } else {
            chosen = Array(hot.filter(store.holds).prefix(room))
            // What changed in the last epochs: ever more of them, until there is more than there is room for.
            var back: UInt64 = 1
            while back < statistics.epoch {
                let latest = store.pages(changedAfter: statistics.epoch - back, limit: room + 1)
                let both = Set(chosen).union(latest)
                if both.count > room { break }
                chosen = Array(both)
                back *= 2
            }
        }
        return normalized(chosen.map { $0..<$0 + 1 })
    }
}
