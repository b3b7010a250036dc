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
                try update(&state, source)
                if grows { try grow(&state, source) }
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

    // MARK: What is filled already

    private func update(_ state: inout State, _ source: Source) throws {
        for (number, space) in state.spaces where source.stores[number] == nil {
            try process.drop(space.addresses(of: space.ranges))
            state.spaces[number] = nil
        }
        for (number, var space) in state.spaces {
            guard let store = source.stores[number] else { continue }
            let absent = store.absent(of: space.ranges.flatMap { Array($0) })
            try drop(normalized(absent.map { $0..<$0 + 1 }), &space)
            try drop(intersection(space.ranges, source.except[number] ?? []), &space)
            let changed = Self.pages(of: store, after: space.epoch).filter { space.held.contains($0) }
            try write(changed, of: store, &space)
            space.epoch = store.statistics.epoch
            state.spaces[number] = space
        }
    }

    private func drop(_ pages: [Range<UInt64>], _ space: inout InheritedSpace) throws {
        guard !pages.isEmpty else { return }
        try process.drop(space.addresses(of: pages))
        space.remove(pages)
    }

    private func write(_ pages: [UInt64], of store: PageStore, _ space: inout InheritedSpace) throws {
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

    // MARK: More of it

    private func grow(_ state: inout State, _ source: Source) throws {
        let processes = source.stores.keys.filter { !SharedNumber.isShared($0) }
        var room =
            min(Self.most, Int(clamping: process.bytes / 4096)) - state.spaces.values.reduce(0) { $0 + $1.held.count }
        for number in processes.sorted() where room > 0 {
            guard let store = source.stores[number] else { continue }
            var space = state.spaces[number] ?? InheritedSpace(epoch: store.statistics.epoch)
            let except = source.except[number] ?? []
            let wanted = Self.choose(from: store, hot: source.hot[number] ?? [], room: room + space.held.count)
                .filter { page in
                    let i = except.firstIndex(endingAfter: page)
                    return !space.held.contains(page) && !(i < except.count && except[i].contains(page))
                }
            let made = space.cover(wanted, &state.addresses)
            try process.map(made)
            // What lies where nothing could be mapped stays away.
            let pages = wanted.filter { space.address(of: $0) != nil }.prefix(max(0, room)).sorted()
            try write(pages, of: store, &space)
            room -= pages.count
            state.spaces[number] = space
        }
    }

    /// All pages, or, where there are more, some of those that are wanted most.
    static func choose(from store: PageStore, hot: [UInt64], room: Int) -> [UInt64] {
        let statistics = store.statistics
        guard statistics.pages > UInt64(room) else { return pages(of: store, after: 0) }
        var chosen = hot.filter(store.holds).prefix(room)
        var taken = Set(chosen)
        // What changed in the last epochs: ever more of them, until there is more than there is room for.
        var back: UInt64 = 1
        while back < statistics.epoch {
            let next = store.pages(changedAfter: statistics.epoch - back, limit: room + 1)
            if next.count > room { break }
            for page in next where taken.count < room && taken.insert(page).inserted { chosen.append(page) }
            back *= 2
        }
        return Array(chosen)
    }

    private static func pages(of store: PageStore, after epoch: UInt64) -> [UInt64] {
        store.pages(changedAfter: epoch, limit: Int(store.statistics.pages))
    }
}
