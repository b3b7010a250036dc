import CLinux
import Glibc
import LinuxSystem

/// What a round did with one object.
package struct SharedFlushed: Sendable {
    /// The number of its backing file.
    package let number: Int32
    package let shape: SharedShape
    /// Pages that exist, in order.
    package let present: [Range<UInt64>]
}

/// Shared memory's part of the rounds: each object has a backing file of its own, keyed by page offset.
///
/// Used by `MemoryFlush`, one round at a time.
final class SharedFlush {
    private struct Flow {
        let number: Int32
        let store: PageStore
        var heat = PageHeat()
        var watch: SharedWatch
        /// Known to be written, and not in the backing file yet.
        var pending: [Range<UInt64>] = []
        /// Written since heat was last told.
        var unheated: [Range<UInt64>] = []
        var present: [Range<UInt64>] = []
        /// Open during a round.
        var memory: SharedMemory?
        private let isRestored: Bool

        init(number: Int32, store: PageStore, isRestored: Bool) {
            (self.number, self.store, self.isRestored) = (number, store, isRestored)
            watch = SharedWatch(isRestored: isRestored)
        }

        /// Lets go of the object: the next round looks at all of it.
        mutating func rest() {
            memory = nil
            watch = SharedWatch(isRestored: isRestored)
        }
    }

    private let directory: String
    private var flows: [SharedObject: Flow] = [:]
    /// What the last flush with a scan has given.
    private var known: [SharedFlushed] = []
    /// Backing files of an earlier owner, until their objects are met: those were made by the restore.
    private var inherited: [SharedObject: (number: Int32, store: PageStore)] = [:]
    private var nextNumber = SharedNumber.first
    /// Objects that the latest round compared whole.
    private(set) var compared = 0

    /// Goes on with open backing files; those whose object is not known are deleted.
    init(directory: String, stores: [Int32: PageStore], objects: [Int32: SharedObject]) {
        self.directory = directory
        for (number, store) in stores {
            nextNumber = max(nextNumber, number + 1)
            if let object = objects[number] {
                inherited[object] = (number, store)
            } else {
                unlink(MemoryFlush.path(of: number, in: directory))
            }
        }
    }

    /// The backing files, by number.
    var stores: [Int32: PageStore] {
        Dictionary(uniqueKeysWithValues: flows.values.map { ($0.number, $0.store) } + inherited.values)
    }

    /// Written pages that are left for a later round.
    var deferredPages: Int { flows.values.reduce(0) { $0 + pageCount($1.pending) } }

    /// Finds the objects of a round, and what of them was written; returns how many pages that is.
    func take(_ processes: [ProcessDirty], _ glance: SharedGlance, _ kind: MemoryFlush.Kind) throws -> Int {
        let sightings = SharedSightings.find(processes)
        let written = SharedWrites(processes)
        compared = 0
        var pages = 0
        var met: Set<SharedObject> = []
        for (object, sighting) in sightings {
            // One that is gone by now, or has no content, is none.
            guard let memory = SharedMemory(sighting), memory.state.size > 0 else { continue }
            met.insert(object)
            pages += try take(sighting, memory, written, glance, kind)
        }
        for (object, flow) in flows where !met.contains(object) {
            flows[object] = nil
            unlink(MemoryFlush.path(of: flow.number, in: directory))
        }
        for left in inherited.values { unlink(MemoryFlush.path(of: left.number, in: directory)) }
        inherited = [:]
        return pages
    }

    private func take(
        _ sighting: SharedSighting,
        _ memory: SharedMemory,
        _ written: SharedWrites,
        _ glance: SharedGlance,
        _ kind: MemoryFlush.Kind
    ) throws -> Int {
        var flow = try flows[sighting.object] ?? makeFlow(sighting.object)
        flow.memory = memory
        flow.present = try memory.present()
        var dirty: [Range<UInt64>] = []
        if let tracked = flow.watch.written(sighting, memory, written, glance) {
            dirty = intersection(tracked, flow.present)
        } else if kind.comparesShared || flow.watch.mayCompare(at: glance.realtime) {
            compared += 1
            let start = smi_realtime()
            dirty = try memory.differing(flow.present, from: flow.store)
            flow.watch.compared(at: start, taking: smi_realtime() - start)
        } else {
            // It is left as unknown as it is.
            flow.watch.forget()
        }
        flow.unheated = normalized(flow.unheated + dirty)
        if kind.tellsHeat {
            flow.heat.finished(flow.unheated)
            flow.unheated = []
        }
        flow.pending = intersection(normalized(flow.pending + dirty), flow.present)
        flows[sighting.object] = flow
        return pageCount(dirty)
    }

    private func makeFlow(_ object: SharedObject) throws -> Flow {
        if let (number, store) = inherited.removeValue(forKey: object) {
            return Flow(number: number, store: store, isRestored: true)
        }
        defer { nextNumber += 1 }
        let path = MemoryFlush.path(of: nextNumber, in: directory)
        return Flow(number: nextNumber, store: try PageStore.create(at: path), isRestored: false)
    }

    /// Brings pending pages into the backing files, and out as frames.
    func flush(
        _ kind: MemoryFlush.Kind,
        _ replicated: UInt64,
        _ codec: PageDelta.Codec,
        _ left: inout Int,
        emit: (MemoryFrame) throws -> Void
    ) throws -> [SharedFlushed] {
        // Shared memory is mapped for the time of a round that scans.
        if kind == .backlog { return known }
        var flushed: [SharedFlushed] = []
        for (object, var flow) in flows.sorted(by: { $0.value.number < $1.value.number }) {
            guard let memory = flow.memory else { continue }
            let chosen: [Range<UInt64>]
            switch kind {
            case .live, .cold: chosen = flow.heat.coldest(of: flow.pending, limit: left, isHeld: flow.store.holds)
            case .last: chosen = prefix(of: flow.pending, pages: left)
            case .sample, .backlog: chosen = []
            // Nobody can be made to wait for a page of a file that is to be read: none of them is late.
            case .cut, .lateCut: chosen = flow.pending
            }
            left -= pageCount(chosen)
            try memory.gather(chosen) { pages, data in
                let bytes = try PageDelta.encode(pages, data, from: flow.store, baseEpoch: replicated, codec: codec)
                _ = try pages.withUnsafeBufferPointer { try flow.store.put($0, data) }
                try emit(MemoryFrame(process: flow.number, parent: nil, bytes: bytes, pages: pages.count))
            }
            flow.pending = subtract(chosen, from: flow.pending)
            if kind.isCut { try flow.store.retain(flow.present) }
            let shape = SharedShape(object: object, size: memory.state.size, name: memory.name)
            flushed.append(SharedFlushed(number: flow.number, shape: shape, present: flow.present))
            flow.memory = nil
            flows[object] = flow
        }
        known = flushed
        return flushed
    }

    /// Makes a round's pages an epoch of every file.
    func commit(epoch: UInt64, quick: Bool) throws {
        for flow in flows.values { try flow.store.commit(epoch: epoch, durability: .process, quick: quick) }
    }

    /// Lets go of every object until the next round: a watched one cannot go.
    func rest() {
        for object in flows.keys { flows[object]?.rest() }
    }

    /// After a round that failed midway: the files are at the last epoch, and everything is looked at again.
    func rollBack() throws {
        for object in flows.keys {
            try flows[object]?.store.rollback()
            flows[object]?.pending = []
            flows[object]?.rest()
        }
    }
}
