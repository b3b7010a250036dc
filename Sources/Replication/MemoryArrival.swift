import BackingStore
import LinuxSystem
import Synchronization

/// The memory of an SMI that is being restored on this host: its pages come in from the replica that is here.
package final class MemoryArrival: Sendable {
    /// How long late pages may stay away before the SMI is given back to the host that has all of them.
    package static let patience = Duration.seconds(60)

    /// What happens while pages come in.
    private enum Event {
        case served(PageServer.Event)
        /// The last late page has come.
        case whole
        /// No late page has come for too long.
        case stalled
    }

    let replica: MemoryReplica
    let server: PageServer
    /// Tracking of the restored processes (`MemoryArrival+Tracking.swift`).
    let tracking = TrackingOn()
    private let events: AsyncStream<Event>
    private let happen: AsyncStream<Event>.Continuation
    private let late: LatePages
    let sources: [Int32: PageSource]

    /// Prepares to serve the pages of a replica; `keeper` keeps faults waiting if this process dies.
    package init(_ replica: MemoryReplica, keeper: PageKeeper?) throws {
        self.replica = replica
        let late = LatePages()
        self.late = late
        let served = replica.serve { late.arrived($0, $1) }
        // The page server asks again for a process that an earlier one served, and forked children share theirs.
        let sources = served.stores.map { pid, store in
            let source = PageSource(
                store: store,
                hot: served.hot[pid] ?? [],
                except: served.imaged[pid] ?? [],
                late: served.late[pid] ?? [],
                onWanted: { late.want(pid, $0) }
            )
            return (pid, source)
        }
        let sourceOf = Dictionary(uniqueKeysWithValues: sources)
        self.sources = sourceOf
        let (events, out) = AsyncStream<Event>.makeStream()
        self.events = events
        happen = out
        let server = try PageServer(
            keeper: keeper,
            sources: { sourceOf[$0] },
            onEvent: { out.yield(.served($0)) }
        )
        self.server = server
        late.onArrival { process, pages in
            sourceOf[process]?.arrived(pages)
            server.wake()
        }
    }

    deinit {
        late.letGo()
    }

    /// Whether pages of its epoch have yet to come from the host that the SMI came from.
    package var isLacking: Bool { replica.isLacking }

    /// How late pages came.
    package var figures: LateFigures { late.figures }

    /// From now on `tell` gets what is to be said to that host; what it may not have heard is said again.
    package func ask(_ tell: @escaping @Sendable (EpochMessage) -> Void) {
        late.ask(tell)
    }

    /// The epoch with the late pages is whole.
    package func becameWhole() {
        happen.yield(.whole)
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

    /// The IPC namespace with the segments among these; nil where there are none.
    package var segmentSpace: Descriptor? { replica.fills?.segmentSpace }

    /// Private memory that the restored processes can inherit, by process.
    package var inheritable: [Int32: InheritedSpace] { replica.inherited?.spaces(of: replica.epoch) ?? [:] }

    /// A process will inherit pages (sorted).
    package func inherits(_ process: Int32, _ pages: [Range<UInt64>]) {
        sources[process]?.inherited = pages
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
    /// `retracking` says how processes are stopped for their tracking to go on; without it, it ends.
    ///
    /// - Throws: `ReplicaError` where pages cannot be served: the processes wait for them and must be ended.
    package func allIn(retracking: Retracking? = nil) async throws {
        let clock = watch()
        defer { clock.cancel() }
        await confirmInherited()
        for await event in events {
            switch event {
            case .served(.failed(let error)): throw Self.unservable("\(error)")
            // Before CRIU's end mark its processes may still be on their way here.
            case .served(.restored): isRestored.set()
            case .stalled where replica.isLacking: throw Self.unservable("no late page came for \(Self.patience)")
            default: break
            }
            if try await isIn(retracking) { return }
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

    /// Says so where no late page comes for too long.
    private func watch() -> Task<Void, Never> {
        let (late, out) = (late, happen)
        late.touch()
        return Task {
            while (try? await Task.sleep(for: .seconds(1))) != nil {
                if late.silence > Self.patience { out.yield(.stalled) }
            }
        }
    }

    private func isIn(_ retracking: Retracking? = nil) async throws -> Bool {
        guard isRestored.isSet, !replica.isLacking else { return false }
        let left = await server.pagesLeft()
        guard left.values.allSatisfy({ $0 == 0 }) else { return false }
        if let retracking { await trackOn(retracking) }
        await server.finishAll()
        server.stop()
        return true
    }

    /// Ends the service, where the restore has failed and its processes are gone.
    package func abandon() {
        replica.inherited?.letGo()
        server.stop()
    }

    /// The backing files, for the one who goes on with them, and which shared memory of this host some of them are of;
    /// once the pages are in.
    package func handOver() -> (stores: [Int32: PageStore], shared: [Int32: SharedObject], epoch: UInt64) {
        var objects = replica.shared.mapValues(\.object).filter { $0.value.kind == .segment }
        for filled in filled where filled.original.kind == .file {
            objects[filled.number] = SharedObject(kind: .file, inode: filled.inode)
        }
        replica.keepFilled(false)
        return (replica.stores, objects, replica.epoch)
    }

    private static func unservable(_ cause: String) -> ReplicaError {
        ReplicaError(cause: "memory cannot be served: \(cause)", remedy: "the SMI is ended; launch it again")
    }
}
