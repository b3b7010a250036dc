import CLinux
import Glibc
import LinuxSystem

/// Pages on their way to the replicas, encoded against what they hold.
package struct MemoryFrame: Sendable {
    /// The process's number inside its sandbox.
    package let process: pid_t
    /// The process whose backing file the frame refers to for pages shared since a fork.
    package let parent: pid_t?
    /// For `PageDelta.apply`, in the order of emission.
    package let bytes: [UInt8]
    package let pages: Int
}

/// What a round may flush.
package struct RoundLimit: Sendable {
    package var pages: Int
    /// Looked at between pieces, so that it may be exceeded by one.
    package var wireBytes: Int

    /// As much as there is.
    package static let none = RoundLimit(pages: .max, wireBytes: .max)

    /// A limit.
    package init(pages: Int, wireBytes: Int) {
        self.pages = pages
        self.wireBytes = wireBytes
    }
}

/// What a round did.
package struct FlushReport: Sendable {
    /// Processes alive; for a cut with all their pages, outside of which replicas must drop everything.
    package var processes: [ProcessDirty] = []
    /// Their numbers inside the sandbox, in the same order.
    package var inner: [pid_t] = []
    /// Shared memory that is in backing files of its own.
    package var shared: [SharedFlushed] = []
    /// Objects of shared memory that were compared whole, as their writes could not be tracked.
    package var comparedShared = 0
    /// Pages that the round found written, of processes met before: of a new one all counts as written once.
    package var writtenPages = 0
    package var flushedPages = 0
    /// The round has flushed as much as it may: there can be more.
    package var isFull = false
    package var wireBytes = 0
    /// Written pages left for a later round or the cut.
    package var deferredPages = 0
    /// Of these, what a cold round has still to bring across.
    package var owedPages = 0
    /// Pages whose newest version a late cut has left, for each process, in the order of `inner`.
    package var late: [[Range<UInt64>]] = []
    /// What a cut would have to carry now.
    package var residual = Residual(pages: 0, wireBytesPerPage: 4096, pagesPerSecond: 0)
}

/// Brings the memory of an SMI's processes into their backing files, round by round, and out as frames.
///
/// Live rounds run beside the program: cold pages first, pages that change every round left for last. A cut takes everything
/// that is left from frozen processes. Each round ends with a committed epoch in every backing file. Not thread-safe: one
/// round at a time, on a thread that may block.
package final class MemoryFlush {
    /// What one round is for.
    package enum Kind: Sendable, Equatable {
        /// The program runs; hot pages are left for later.
        case live
        /// The program runs; only what earlier rounds have found and not flushed, without another scan.
        case backlog
        /// The program runs, but not here for much longer: everything, hot pages too, as fast as it goes.
        case last
        /// A hand-off waits: what was pending and not hot when the first of these rounds began.
        case cold(isFirst: Bool)
        /// A hand-off waits: a few pages from everywhere, for what they take on the wire.
        case sample
        /// The program is frozen: everything, at once.
        case cut
        /// The program is frozen: all but what can follow once it runs elsewhere.
        case lateCut

        /// The processes are held still.
        package var isCut: Bool { self == .cut || self == .lateCut }
        /// A round of its own pace says which pages are hot; those that come as fast as they can do not.
        var tellsHeat: Bool { self == .live || self == .last || self == .cut }
        /// A hand-off depends on it: shared memory that cannot be tracked now is compared whole.
        var comparesShared: Bool {
            self != .live && self != .backlog && self != .sample && self != .cold(isFirst: false)
        }
    }

    struct Flow {
        let inner: pid_t
        let store: PageStore
        let parent: pid_t?
        var heat = PageHeat()
        /// Written, found by a scan, and not in the backing file yet.
        var pending: [Range<UInt64>] = []
        /// Written since heat was last told.
        var unheated: [Range<UInt64>] = []
        /// Pending pages that cold rounds have yet to bring across.
        var owed: [Range<UInt64>] = []
        var isNew = true
    }

    /// Finds written pages; a restored process's userfaultfd is adopted here.
    package let tracker = DirtyTracker()
    private let directory: String
    private let clock: () -> Double
    var flows: [ProcessKey: Flow] = [:]
    /// Backing files of an earlier owner, by inner number, until their processes are met.
    private var inherited: [pid_t: PageStore]
    private let shared: SharedFlush
    private(set) var codec: PageDelta.Codec = .zstd(level: 3)
    private var lastScan: Double?
    private var pagesPerSecond = 0.0
    /// Bytes that the round may send.
    private var wireLimit = Int.max
    /// Pages after which that is looked at: 4 MB.
    private static let piece = 1024
    private var wireBytesPerPage = 4096.0

    /// Flushes into files of a directory; `stores` are those of it that are open already, as a replica's are.
    ///
    /// `shared` says which object of this host a number beyond those of processes is. `clock` gives seconds.
    package init(
        directory: String,
        stores: [pid_t: PageStore] = [:],
        shared: [Int32: SharedObject] = [:],
        clock: @escaping () -> Double = MemoryFlush.monotonicSeconds
    ) {
        self.directory = directory
        self.inherited = stores.filter { !SharedNumber.isShared($0.key) }
        let others = stores.filter { SharedNumber.isShared($0.key) }
        self.shared = SharedFlush(directory: directory, stores: others, objects: shared)
        self.clock = clock
    }

    /// Sets the link's speed in bytes a second, which chooses the codec.
    package func setLink(bytesPerSecond: Double) {
        codec = .best(forLink: bytesPerSecond)
    }

    /// Monotonic time in seconds.
    package static func monotonicSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// The backing files of all processes, by inner number, and of shared memory.
    package var stores: [pid_t: PageStore] {
        Dictionary(flows.values.map { ($0.inner, $0.store) }) { first, _ in first }.merging(inherited) { $1 }
            .merging(shared.stores) { $1 }
    }

    /// The pages that a restored process will want first, as sorted ranges.
    package func hotSet(of inner: pid_t, limit: Int) -> [Range<UInt64>] {
        normalized((flows.values.first { $0.inner == inner }?.heat.hotSet(limit: limit) ?? []).map { $0..<$0 + 1 })
    }

    /// No round comes for some time: nothing of the processes' is held on to.
    package func rest() {
        shared.rest()
    }

    /// One round over the given processes, committed as `epoch`; a backlog round is over those of the last scan.
    ///
    /// `replicated` is the newest epoch that every replica holds whole (0: none), `limit` what a round beside
    /// the program may flush. `emit` gets each frame before the next one is made; what it throws ends the round, uncommitted.
    package func round(
        _ kind: Kind,
        processes: ProcessList,
        epoch: UInt64,
        replicated: UInt64,
        limit: RoundLimit = .none,
        emit: (MemoryFrame) throws -> Void
    ) throws -> FlushReport {
        var report = FlushReport()
        do {
            if kind == .backlog {
                report.processes = tracker.known().filter { flows[$0.key] != nil }
                report.inner = report.processes.compactMap { flows[$0.key]?.inner }
            } else {
                try scan(kind, processes, &report)
            }
            if kind == .cold(isFirst: true) { oweWhatIsCold() }
            var left = limit.pages
            wireLimit = limit.wireBytes
            let spacing = sampleSpacing
            var few = LateChoice.mostWithCut
            for process in report.processes {
                let chosen = choose(process, kind, limit: left, spacing: spacing, few: &few)
                left -= try flush(process, chosen, replicated, &report, emit)
            }
            try flushShared(kind, replicated, &left, &report, emit)
            try shared.commit(epoch: epoch, quick: kind.isCut)
            for process in report.processes {
                try flows[process.key]?.store.commit(epoch: epoch, durability: .process, quick: kind.isCut)
            }
        } catch {
            try rollBack()
            throw error
        }
        report.isFull = report.isFull || report.flushedPages >= limit.pages
        report.owedPages = flows.values.reduce(0) { $0 + pageCount($1.owed) }
        if kind == .lateCut {
            report.late = report.processes.map { flows[$0.key]?.pending ?? [] }
        }
        let sampled = kind == .sample && report.flushedPages > 0
        report.residual = Residual(
            pages: report.deferredPages,
            wireBytesPerPage: sampled ? Double(report.wireBytes) / Double(report.flushedPages) : wireBytesPerPage,
            pagesPerSecond: pagesPerSecond
        )
        return report
    }

    /// Finds what was written since the last scan.
    private func scan(_ kind: Kind, _ processes: ProcessList, _ report: inout FlushReport) throws {
        tracker.attach(processes.all.map(\.hostPid))
        let inner = Dictionary(processes.all.map { ($0.hostPid, $0.inner) }) { first, _ in first }
        report.processes = tracker.scan(presence: kind.isCut, frozen: kind.isCut)
        report.inner = report.processes.compactMap { inner[$0.pid] }
        let now = clock()
        let seconds = lastScan.map { now - $0 } ?? 0
        lastScan = now
        forget(except: Set(report.processes.map(\.key)))
        for (process, inner) in zip(report.processes, report.inner) {
            if flows[process.key] != nil { report.writtenPages += process.dirtyPages }
            try take(process, inner, kind)
        }
        // Of processes that ended before they were met here.
        for inner in inherited.keys { unlink(Self.path(of: inner, in: directory)) }
        inherited = [:]
        report.writtenPages += try shared.take(report.processes, processes.glance, kind)
        pagesPerSecond = seconds > 0 ? Double(report.writtenPages) / seconds : 0
    }

    /// Adds a process that is new, and what the scan found of it.
    private func take(_ process: ProcessDirty, _ inner: pid_t, _ kind: Kind) throws {
        if flows[process.key] == nil {
            let parent = TrackedProcess.parent(of: process.pid)
            let path = Self.path(of: inner, in: directory)
            var flow: Flow
            if let store = try inherited.removeValue(forKey: inner) ?? Self.reopened(path) {
                flow = Flow(inner: inner, store: store, parent: nil)
                flow.isNew = false
            } else {
                let source = flows.first { $0.key.pid == parent }?.value.inner
                flow = Flow(inner: inner, store: try PageStore.create(at: path), parent: source)
            }
            flows[process.key] = flow
        }
        let unheated = (flows[process.key]?.unheated ?? []) + process.dirty
        if kind.tellsHeat { flows[process.key]?.heat.finished(normalized(unheated)) }
        flows[process.key]?.unheated = kind.tellsHeat ? [] : normalized(unheated)
        let pending = normalized((flows[process.key]?.pending ?? []) + process.dirty)
        flows[process.key]?.pending = pending
    }

    /// Flushes the chosen pages, as far as the round's limit in bytes allows; returns how many.
    private func flush(
        _ process: ProcessDirty,
        _ chosen: [Range<UInt64>],
        _ replicated: UInt64,
        _ report: inout FlushReport,
        _ emit: (MemoryFrame) throws -> Void
    ) throws -> Int {
        guard var flow = flows[process.key] else { return 0 }
        let parentStore = flow.isNew ? flows.values.first { $0.inner == flow.parent }?.store : nil
        let parent = parentStore == nil ? nil : flow.parent
        var left = chosen
        while !left.isEmpty, report.wireBytes < wireLimit {
            let piece = prefix(of: left, pages: Self.piece)
            left = subtract(piece, from: left)
            _ = try ProcessMemoryReader.read(piece, of: process.pid) { (numbers, data) throws -> Void in
                let pages = Array(numbers)
                let bytes = try PageDelta.encode(
                    pages,
                    data,
                    from: flow.store,
                    baseEpoch: replicated,
                    parent: parentStore,
                    codec: codec
                )
                try flow.store.put(numbers, data)
                try emit(MemoryFrame(process: flow.inner, parent: parent, bytes: bytes, pages: pages.count))
                note(pages.count, bytes.count, &report)
            }
        }
        if let present = process.present { try flow.store.retain(present) }
        let flushed = subtract(left, from: chosen)
        flow.pending = subtract(flushed, from: flow.pending)
        flow.owed = subtract(flushed, from: flow.owed)
        flow.isNew = flow.isNew && !left.isEmpty
        report.isFull = report.isFull || !left.isEmpty
        report.deferredPages += pageCount(flow.pending)
        flows[process.key] = flow
        return pageCount(flushed)
    }

    private func flushShared(
        _ kind: Kind,
        _ replicated: UInt64,
        _ left: inout Int,
        _ report: inout FlushReport,
        _ emit: (MemoryFrame) throws -> Void
    ) throws {
        report.shared = try shared.flush(kind, replicated, codec, &left) { frame in
            note(frame.pages, frame.bytes.count, &report)
            try emit(frame)
        }
        report.deferredPages += shared.deferredPages
        report.comparedShared = shared.compared
    }

    private func note(_ pages: Int, _ bytes: Int, _ report: inout FlushReport) {
        report.flushedPages += pages
        report.wireBytes += bytes
        wireBytesPerPage = wireBytesPerPage * 0.9 + Double(bytes) / Double(pages) * 0.1
    }

    /// After a round that failed midway the files are at the last epoch, and so must what is pending be.
    private func rollBack() throws {
        // What had been found and flushed in this round is not known page by page: a fresh start reads all again, also of
        // processes that were met in it, and the store keeps what is unchanged.
        tracker.detach()
        try shared.rollBack()
        for key in flows.keys {
            try flows[key]?.store.rollback()
            flows[key]?.pending = []
            flows[key]?.owed = []
        }
    }

    private func forget(except alive: Set<ProcessKey>) {
        for (key, flow) in flows where !alive.contains(key) {
            flows[key] = nil
            unlink(Self.path(of: flow.inner, in: directory))
        }
    }

    /// Where the backing file of a process, or of shared memory, is.
    package static func path(of inner: pid_t, in directory: String) -> String {
        SharedNumber.isShared(inner)
            ? "\(directory)/\(inner - SharedNumber.first).shared" : "\(directory)/\(inner).pages"
    }

    /// A backing file that is there from before; a damaged one is given up, as the process has all of it.
    private static func reopened(_ path: String) throws -> PageStore? {
        guard access(path, F_OK) == 0 else { return nil }
        return try? PageStore.open(at: path)
    }
}

extension ProcessDirty {
    /// The process's name for good.
    var key: ProcessKey { ProcessKey(pid: pid, startTime: startTime) }
}
