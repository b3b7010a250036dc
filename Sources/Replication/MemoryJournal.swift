import BackingStore
import LinuxSystem
import Synchronization

/// One round as it goes to the replicas.
package struct EpochRound: Sendable {
    package let epoch: UInt64
    /// What a replica that holds `base` whole has to be sent, without `begin` and `end`.
    package let messages: [EpochMessage]
    package let processes: [Int32]
    package let quick: Bool
    /// The epoch that the messages build upon.
    package let base: UInt64
    package let flushedPages: Int
    /// Written pages left for a later round.
    package let deferredPages: Int
    /// The round has flushed as much as it may: there can be more.
    package let isFull: Bool
    /// Pages that the round found written, of processes that it knew.
    package let writtenPages: Int
    package let wireBytes: Int
    /// Pages that a hand-off's first rounds have yet to bring across.
    package let owedPages: Int
    /// Pages that a late cut has left, and those that the processes will want first.
    package let late: [Int32: [Range<UInt64>]]
    package let hot: [Int32: [Range<UInt64>]]
    package let residual: Residual
}

/// The backing files of an SMI that runs here, and its epochs: what blocks, behind a lock.
final class MemoryJournal: Sendable {
    private struct State {
        let flush: MemoryFlush
        var epoch: UInt64
        /// Hot pages as they were before the freeze, in which there is no time to look.
        var hot: [Int32: [Range<UInt64>]] = [:]
    }

    let directory: EpochDirectory
    private let state: Mutex<State>

    /// Goes on with what an earlier owner, or this host as a replica, has left in a directory.
    init(directory: EpochDirectory, stores: [Int32: PageStore], shared: [Int32: SharedObject], epoch: UInt64) {
        self.directory = directory
        let flush = MemoryFlush(directory: directory.path, stores: stores, shared: shared)
        state = Mutex(State(flush: flush, epoch: epoch))
    }

    /// The last epoch.
    var epoch: UInt64 { state.withLock { $0.epoch } }

    /// Goes on with a number above one that some replica has seen elsewhere: numbers only grow.
    func skip(to epoch: UInt64) {
        state.withLock { $0.epoch = max($0.epoch, epoch) }
    }

    /// Goes on with what has been tracked of restored processes; before the first round.
    func adopt(_ processes: [AdoptedProcess]) {
        state.withLock { state in
            for process in processes { state.flush.tracker.adopt(process) }
        }
    }

    /// Keeps what a cut will say of hot pages, and copies of what a dump needs to know of the processes' mappings.
    ///
    /// Blocks.
    func prepareCut(_ processes: [FlushedProcess], directory: String) {
        // A process without its copy is dumped whole.
        for process in processes { try? CarriedMemory.copySmaps(of: process.hostPid, to: directory) }
        state.withLock { state in
            let flush = state.flush
            state.hot = Dictionary(
                processes.map { ($0.inner, flush.hotSet(of: $0.inner, limit: MemoryReplica.hotLimit)) }
            ) { first, _ in first }
        }
    }

    /// The pages of the processes that a late cut has frozen.
    func frozenPages() -> FrozenPages {
        state.withLock { $0.flush.frozenPages(after: $0.epoch) }
    }

    /// Flushes what was written into the backing files, as the next epoch.
    ///
    /// Blocks. For a cut, `skips` is the directory that CRIU's preload library looks into for what to leave out.
    func round(
        _ kind: MemoryFlush.Kind,
        _ processes: ProcessList,
        limit: RoundLimit,
        link bytesPerSecond: Double,
        skips: String? = nil
    ) throws -> EpochRound {
        try state.withLock { state in
            let base = state.epoch
            var messages: [EpochMessage] = []
            state.flush.setLink(bytesPerSecond: bytesPerSecond)
            let report = try state.flush.round(
                kind,
                processes: processes,
                epoch: base + 1,
                replicated: base,
                limit: limit
            ) { frame in
                messages.append(.frame(process: frame.process, parent: frame.parent, bytes: frame.bytes))
            }
            state.epoch = base + 1
            try directory.note(epoch: base + 1)
            messages += report.shared.map { .shared(number: $0.number, shape: $0.shape) }
            var late: [Int32: [Range<UInt64>]] = [:]
            var hot: [Int32: [Range<UInt64>]] = [:]
            for (inner, pages) in zip(report.inner, report.late) where !pages.isEmpty {
                late[inner] = pages
                messages.append(.late(process: inner, pages: pages))
            }
            if kind.isCut {
                messages += report.shared.map { .present(process: $0.number, pages: $0.present) }
                // Without the list, as with it, nothing is lost: CRIU dumps what it does not find there.
                if let skips { try? CarriedMemory.writeShared(report.shared, to: skips) }
                for (process, inner) in zip(report.processes, report.inner) {
                    messages.append(.present(process: inner, pages: process.present ?? []))
                    let pages = state.hot[inner] ?? state.flush.hotSet(of: inner, limit: MemoryReplica.hotLimit)
                    hot[inner] = pages
                    if !pages.isEmpty { messages.append(.hot(process: inner, pages: pages)) }
                    // Without its file a process is dumped whole: slower, not wrong.
                    if let skips, let imaged = try? CarriedMemory.writeSkips(process, to: skips), !imaged.isEmpty {
                        messages.append(.imaged(process: inner, pages: imaged))
                    }
                }
            }
            return EpochRound(
                epoch: base + 1,
                messages: messages,
                processes: report.inner + report.shared.map(\.number),
                quick: kind.isCut,
                base: base,
                flushedPages: report.flushedPages,
                deferredPages: report.deferredPages,
                isFull: report.isFull,
                writtenPages: report.writtenPages,
                wireBytes: report.wireBytes,
                owedPages: report.owedPages,
                late: late,
                hot: hot,
                residual: report.residual
            )
        }
    }

    /// Everything that changed after an epoch, in pieces, for a replica that holds that epoch; the last piece is nil.
    ///
    /// No round may run meanwhile.
    func changes(after epoch: UInt64) -> ChangedPages {
        state.withLock { ChangedPages(stores: $0.flush.stores, after: epoch) }
    }

    /// No round comes for some time.
    func rest() {
        state.withLock { $0.flush.rest() }
    }

    /// Ends all tracking.
    func endTracking() {
        state.withLock { $0.flush.tracker.detach() }
    }
}

/// Reads pages that changed after an epoch out of backing files, as messages to a replica.
struct ChangedPages: Sendable {
    /// Pages in one frame: 256 KB, so that whatever is more urgent waits a moment only.
    private static let batch = 64

    private let after: UInt64
    private var left: [(inner: Int32, store: PageStore)]
    private var from: UInt64 = 0
    /// Processes that there are.
    let processes: [Int32]

    init(stores: [Int32: PageStore], after epoch: UInt64) {
        after = epoch
        left = stores.sorted { $0.key > $1.key }.map { ($0.key, $0.value) }
        processes = stores.keys.sorted()
    }

    /// The next message, nil at the end, and what comes after it.
    ///
    /// Blocks.
    func next(codec: PageDelta.Codec) throws -> (EpochMessage?, ChangedPages) {
        var rest = self
        let message = try rest.message(codec: codec)
        return (message, rest)
    }

    private mutating func message(codec: PageDelta.Codec) throws -> EpochMessage? {
        guard let (inner, store) = left.last else { return nil }
        let pages = store.pages(from: from, changedAfter: after, limit: Self.batch)
        guard let last = pages.last else {
            left.removeLast()
            from = 0
            return .present(process: inner, pages: Self.held(by: store))
        }
        from = last + 1
        var data = [UInt8](repeating: 0, count: pages.count * PageStore.pageSize)
        let bytes = try data.withUnsafeMutableBytes { buffer in
            for (i, page) in pages.enumerated() {
                guard let base = buffer.baseAddress else { continue }
                _ = try store.read(page, into: base + i * PageStore.pageSize)
            }
            guard let base = buffer.baseAddress else { return [UInt8]() }
            return try PageDelta.encode(pages, base, from: store, baseEpoch: 0, codec: codec)
        }
        return .frame(process: inner, parent: nil, bytes: bytes)
    }

    static func held(by store: PageStore) -> [Range<UInt64>] {
        var ranges: [Range<UInt64>] = []
        var from: UInt64 = 0
        while true {
            let pages = store.pages(from: from, limit: 4096)
            guard let last = pages.last else { return ranges }
            // The last range may go on in this batch.
            ranges = Array(ranges.dropLast()) + normalized((ranges.last.map { [$0] } ?? []) + pages.map { $0..<$0 + 1 })
            from = last + 1
        }
    }
}
