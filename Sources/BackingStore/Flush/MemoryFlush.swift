import CLinux
import Glibc
import LinuxSystem

/// One process for good: a pid may be used again, a pid with a start time not.
package struct ProcessKey: Hashable, Sendable, CustomStringConvertible {
    package let pid: pid_t
    /// Clock ticks since boot.
    package let startTime: UInt64

    /// Names a process.
    package init(pid: pid_t, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }

    /// `pid-startTime`, the name of its backing file.
    package var description: String { "\(pid)-\(startTime)" }
}

/// Pages on their way to the replicas, encoded against what they hold.
package struct MemoryFrame: Sendable {
    package let process: ProcessKey
    /// The process whose backing file the frame refers to for pages shared since a fork.
    package let parent: ProcessKey?
    /// For `PageDelta.apply`, in the order of emission.
    package let bytes: [UInt8]
    package let pages: Int
}

/// What a round did.
package struct FlushReport: Sendable {
    /// Processes alive; for a cut with all their pages, outside of which replicas must drop everything.
    package var processes: [ProcessDirty] = []
    package var flushedPages = 0
    package var wireBytes = 0
    /// Written pages left for a later round or the cut.
    package var deferredPages = 0
    /// What a cut would have to carry now.
    package var residual = Residual(pages: 0, wireBytesPerPage: 4096, pagesPerSecond: 0)
}

/// Brings the memory of an SMI's processes into their backing files, round by round, and out as frames.
///
/// Live rounds run beside the program: cold pages first, pages that change every round left for last, within a
/// bandwidth budget. A cut takes everything that is left from frozen processes. Each round ends with a committed epoch
/// in every backing file. Not thread-safe: one round at a time, on a thread that may block.
package final class MemoryFlush {
    /// What one round is for.
    package enum Kind: Sendable, Equatable {
        /// The program runs; nothing may take longer than the budget allows.
        case live
        /// The program is frozen: everything, at once.
        case cut
    }

    private struct Flow {
        let store: PageStore
        let parent: ProcessKey?
        var heat = PageHeat()
        /// Written, found by a scan, and not in the backing file yet.
        var pending: [Range<UInt64>] = []
        var isNew = true
    }

    /// Finds written pages; a restored process's userfaultfd is adopted here.
    package let tracker = DirtyTracker()
    private let directory: String
    private let clock: () -> Double
    private let pause: (Double) -> Void
    private var flows: [ProcessKey: Flow] = [:]
    private var budget: BandwidthBudget?
    private var codec: PageDelta.Codec = .zstd(level: 3)
    private var lastRound: Double?
    private var wireBytesPerPage = 4096.0

    /// Flushes into files of a directory; `clock` gives seconds, `pause` waits for some.
    package init(
        directory: String,
        clock: @escaping () -> Double = MemoryFlush.monotonicSeconds,
        pause: @escaping (Double) -> Void = { usleep(UInt32($0 * 1e6)) }
    ) {
        self.directory = directory
        self.clock = clock
        self.pause = pause
    }

    /// Sets the link's speed in bytes a second: chooses the codec, and bounds live rounds.
    package func setLink(bytesPerSecond: Double) {
        budget = BandwidthBudget(bytesPerSecond: bytesPerSecond)
        codec = .best(forLink: bytesPerSecond)
    }

    /// Monotonic time in seconds.
    package static func monotonicSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// The backing file of a process.
    package func store(of process: ProcessKey) -> PageStore? { flows[process]?.store }

    /// The pages a restored process will want first.
    package func hotSet(of process: ProcessKey, limit: Int) -> [UInt64] {
        flows[process]?.heat.hotSet(limit: limit) ?? []
    }

    /// One round over the given processes, committed as `epoch`.
    ///
    /// `replicated` is the newest epoch that every replica holds whole (0: none), `limit` the pages a live round may
    /// flush. `emit` gets each frame before the next one is made; what it throws ends the round, uncommitted.
    package func round(
        _ kind: Kind,
        pids: [pid_t],
        epoch: UInt64,
        replicated: UInt64,
        limit: Int = .max,
        emit: (MemoryFrame) throws -> Void
    ) throws -> FlushReport {
        tracker.attach(pids)
        var report = FlushReport()
        report.processes = tracker.scan(presence: kind == .cut, frozen: kind == .cut)
        let now = clock()
        let seconds = lastRound.map { now - $0 } ?? 0
        lastRound = now
        let written = report.processes.reduce(0) { $0 + $1.dirtyPages }
        for process in report.processes { try take(process) }
        do {
            var left = limit
            for process in report.processes {
                try flush(process, kind, replicated, &left, &report, emit)
            }
            for process in report.processes {
                try flows[process.key]?.store.commit(epoch: epoch, durability: .process, quick: kind == .cut)
            }
        } catch {
            try rollBack()
            throw error
        }
        forget(except: Set(report.processes.map(\.key)))
        report.residual = Residual(
            pages: report.deferredPages,
            wireBytesPerPage: wireBytesPerPage,
            pagesPerSecond: seconds > 0 ? Double(written) / seconds : 0
        )
        return report
    }

    /// Adds a process that is new, and what the scan found of it.
    private func take(_ process: ProcessDirty) throws {
        if flows[process.key] == nil {
            let parent = flows.keys.first { $0.pid == TrackedProcess.parent(of: process.pid) }
            let store = try PageStore.create(at: "\(directory)/\(process.key).pages")
            flows[process.key] = Flow(store: store, parent: parent)
        }
        flows[process.key]?.heat.finished(process.dirty)
        let pending = normalized((flows[process.key]?.pending ?? []) + process.dirty)
        flows[process.key]?.pending = pending
    }

    private func flush(
        _ process: ProcessDirty,
        _ kind: Kind,
        _ replicated: UInt64,
        _ left: inout Int,
        _ report: inout FlushReport,
        _ emit: (MemoryFrame) throws -> Void
    ) throws {
        guard var flow = flows[process.key] else { return }
        let chosen = kind == .cut ? flow.pending : coldest(flow, limit: left)
        left -= chosen.reduce(0) { $0 + $1.count }
        let parent = flow.isNew ? flow.parent : nil
        let parentStore = parent.flatMap { flows[$0]?.store }
        _ = try ProcessMemoryReader.read(chosen, of: process.pid) { (numbers, data) throws -> Void in
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
            try emit(MemoryFrame(process: process.key, parent: parent, bytes: bytes, pages: pages.count))
            report.flushedPages += pages.count
            report.wireBytes += bytes.count
            wireBytesPerPage = wireBytesPerPage * 0.9 + Double(bytes.count) / Double(pages.count) * 0.1
            // A cut has the link for itself: background rounds give way to it.
            let wait = budget?.spend(bytes.count, at: clock()) ?? 0
            if kind == .live, wait > 0 { pause(wait) }
        }
        if let present = process.present { try flow.store.retain(present) }
        flow.pending = subtract(chosen, from: flow.pending)
        flow.isNew = false
        report.deferredPages += flow.pending.reduce(0) { $0 + $1.count }
        flows[process.key] = flow
    }

    /// The pending pages that are not hot, coldest first, as ranges in order.
    private func coldest(_ flow: Flow, limit: Int) -> [Range<UInt64>] {
        // In its first round everything of a process is written; that says nothing about heat.
        let candidates = flow.pending.joined().map { ($0, flow.heat.heat(of: $0)) }.filter { $0.1 < PageHeat.hot }
        let chosen = candidates.count <= limit ? candidates : Array(candidates.sorted { $0.1 < $1.1 }.prefix(limit))
        return normalized(chosen.map { $0.0..<$0.0 + 1 })
    }

    /// After a round that failed midway the files are at the last epoch, and so must what is pending be.
    private func rollBack() throws {
        for key in flows.keys {
            guard let flow = flows[key] else { continue }
            try flow.store.rollback()
            // What had been flushed in this round is not known page by page: a fresh start reads all again, and the
            // store keeps what is unchanged.
            tracker.release(key.pid)
            flows[key]?.pending = []
        }
    }

    private func forget(except alive: Set<ProcessKey>) {
        for key in flows.keys where !alive.contains(key) {
            flows[key] = nil
            unlink("\(directory)/\(key).pages")
        }
    }
}

extension ProcessDirty {
    /// The process's name for good.
    package var key: ProcessKey { ProcessKey(pid: pid, startTime: startTime) }
}

/// Pages of sorted, disjoint ranges that are not in others.
func subtract(_ removed: [Range<UInt64>], from ranges: [Range<UInt64>]) -> [Range<UInt64>] {
    var result: [Range<UInt64>] = []
    var next = 0
    for range in ranges {
        var start = range.lowerBound
        while next < removed.count, removed[next].upperBound <= start { next += 1 }
        var i = next
        while i < removed.count, removed[i].lowerBound < range.upperBound {
            if start < removed[i].lowerBound { result.append(start..<removed[i].lowerBound) }
            start = max(start, removed[i].upperBound)
            i += 1
        }
        if start < range.upperBound { result.append(start..<range.upperBound) }
    }
    return result
}
