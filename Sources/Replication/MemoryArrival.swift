import BackingStore
import LinuxSystem

/// The memory of an SMI that is being restored on this host: its pages come in from the replica that is here.
package final class MemoryArrival: Sendable {
    private let replica: MemoryReplica
    private let server: PageServer
    private let events: AsyncStream<PageServer.Event>

    /// Prepares to serve the pages of a replica; `keeper` keeps faults waiting if this process dies.
    package init(_ replica: MemoryReplica, keeper: PageKeeper?) throws {
        self.replica = replica
        let stores = replica.stores
        let hot = replica.hot
        let imaged = replica.imaged
        let (events, out) = AsyncStream<PageServer.Event>.makeStream()
        self.events = events
        server = try PageServer(
            keeper: keeper,
            sources: { pid in stores[pid].map { PageSource(store: $0, hot: hot[pid] ?? [], except: imaged[pid] ?? []) }
            },
            onEvent: { out.yield($0) }
        )
    }

    /// The epoch that the pages are of.
    package var epoch: UInt64 { replica.epoch }

    /// Hands out the pages that belong into CRIU's images: process, pages, and how to read one.
    ///
    /// Blocks.
    package func addImaged(
        _ add: (Int32, [Range<UInt64>], (UInt64, UnsafeMutableRawPointer) throws -> Void) throws -> Void
    ) throws {
        for (process, pages) in replica.imaged {
            guard let store = replica.stores[process] else { continue }
            try add(process, pages) { page, buffer in
                guard try store.read(page, into: buffer) else {
                    throw ReplicaError(
                        cause: "page \(page) of process \(process) is not in its backing file",
                        remedy: "try the hand-off again"
                    )
                }
            }
        }
    }

    /// Objects of shared memory that are ready for CRIU to take: what each was at the cut, and where it is here.
    package var filled: [SharedFills.Filled] {
        replica.fills?.filled(replica.shared, epoch: replica.epoch) ?? []
    }

    /// Hands out the shared memory that is not ready, and belongs into CRIU's images: the object, its pages, and how to
    /// read one.
    ///
    /// Blocks.
    package func addShared(
        _ add: (SharedObject, [Range<UInt64>], (UInt64, UnsafeMutableRawPointer) throws -> Void) throws -> Void
    ) throws {
        let ready = Set(filled.map(\.number))
        for (number, shape) in replica.shared where !ready.contains(number) {
            guard let store = replica.stores[number] else { continue }
            try add(shape.object, ChangedPages.held(by: store)) { page, buffer in
                guard try store.read(page, into: buffer) else {
                    throw ReplicaError(
                        cause: "page \(page) of shared memory \(number) is not in its backing file",
                        remedy: "try the hand-off again"
                    )
                }
            }
        }
    }

    /// Listens for CRIU; before the restore.
    package func listen(at path: String) throws {
        try server.listen(at: path)
    }

    /// Waits until every page of every process is in, then gives up their userfaultfds: the SMI's memory is its own.
    ///
    /// - Throws: `ReplicaError` where pages cannot be served: the processes wait for them and must be ended.
    package func allIn() async throws {
        for await event in events {
            if case .failed(let error) = event { throw Self.unservable("\(error)") }
            // Before CRIU's end mark its processes may still be on their way here.
            if case .restored = event { isRestored.set() }
            if try await isIn() { return }
        }
        throw Self.unservable("the page server has ended")
    }

    /// Goes on with what an earlier daemon was serving until everything is in, as `allIn`.
    package func takeOver() async throws {
        try server.takeOver()
        isRestored.set()
        if try await isIn() { return }
        try await allIn()
    }

    private let isRestored = Flag()

    private func isIn() async throws -> Bool {
        guard isRestored.isSet else { return false }
        let left = await server.pagesLeft()
        guard left.values.allSatisfy({ $0 == 0 }) else { return false }
        for pid in left.keys { server.finish(pid) }
        server.stop()
        return true
    }

    /// Ends the service, where the restore has failed and its processes are gone.
    package func abandon() {
        server.stop()
    }

    /// The backing files, for the one who goes on with them, and which shared memory of this host some of them are of;
    /// once the pages are in.
    package func handOver() -> (stores: [Int32: PageStore], shared: [Int32: SharedObject], epoch: UInt64) {
        var objects = replica.shared.mapValues(\.object).filter { $0.value.kind == .segment }
        for filled in filled { objects[filled.number] = SharedObject(kind: .file, inode: filled.inode) }
        replica.keepFilled(false)
        return (replica.stores, objects, replica.epoch)
    }

    private static func unservable(_ cause: String) -> ReplicaError {
        ReplicaError(cause: "memory cannot be served: \(cause)", remedy: "the SMI is ended; launch it again")
    }
}
