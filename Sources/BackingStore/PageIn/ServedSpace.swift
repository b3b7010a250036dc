import CLinux
import Glibc
import LinuxSystem

/// One process (or forked child) whose pages are being served.
///
/// Used by the server's one thread: events and copies are in one order, so that a page dropped by the process is never
/// copied back afterwards (the kernel refuses copies with EAGAIN from the event until it has been read).
final class ServedSpace {
    /// Pages copied at a time between two looks at the faults.
    static let batch: UInt64 = 32
    /// The same while there are faults: the next one waits behind no more than this.
    static let shortBatch: UInt64 = 1
    /// Looks for pages that are here, between two looks at the faults.
    private static let mostSteps = 256

    let id: UInt64
    let pid: pid_t
    let userfault: Descriptor
    let source: PageSource
    let journal: PageJournal
    private(set) var extents: PageExtents
    private var hot: ArraySlice<UInt64>
    private var cursor: UInt64 = 0
    /// The pages behind the last one that was faulted on, which may be wanted next.
    private var near: Range<UInt64>?
    private var readAhead = ReadAhead(most: batch)
    /// Faults on pages that have yet to arrive from the source.
    private var waiting: [UInt64] = []
    /// Faults that an event stands in front of: the kernel copies nothing until it has been read and its thread has run.
    private var delayed: [UInt64] = []
    /// Whether faults are to be tried again soon.
    var isDelayed: Bool { !delayed.isEmpty && !isGone }
    /// Pages are write-protected as they come in, so that tracking sees what the process writes.
    var isTracking = false
    /// A child that a served process has made: it has its pages from its parent's backing file, and none of its own.
    let isForked: Bool
    /// Pages that the process had when it was restored, without their having come in.
    private(set) var inheritedPages = 0
    /// Those of which it is not known yet that they are as in the backing file, sorted.
    var unconfirmed: [Range<UInt64>] = []
    /// The process has made a child, which shares its pages: what nobody else has mapped is not what it has written.
    var hasForked = false
    /// The process on this host, once it is tracked.
    var hostPid: pid_t = 0
    /// Pages found written so far, where writes are tracked.
    var written: [Range<UInt64>] = []
    /// CRIU has restored everything.
    ///
    /// Before that the mappings are not registered yet: faults are answered as they
    /// come, but nothing can be pushed.
    var isRestored = false
    private(set) var isGone = false
    private var failure: PageInError?
    private var isFailureReported = false
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(batch) * 4096, alignment: 4096)

    init(
        id: UInt64,
        pid: pid_t,
        userfault: Descriptor,
        source: PageSource,
        journal: PageJournal,
        extents: PageExtents,
        isForked: Bool = false
    ) {
        self.id = id
        self.isForked = isForked
        self.pid = pid
        self.userfault = userfault
        self.source = source
        self.journal = journal
        self.extents = extents
        hot = source.hot[...]
    }

    deinit {
        buffer.deallocate()
    }

    /// Whether there is something to push now.
    var hasWork: Bool { isRestored && !isGone && failure == nil && !extents.isEmpty && (!isStalled || !fresh.isEmpty) }
    /// Everything that is left has yet to arrive from the source.
    private var isStalled = false
    /// Since the cursor was at the start there was nothing but late pages.
    private var isDry = false
    /// Late pages that have come, last one first, and how many have been seen to come.
    private var fresh: [UInt64] = []
    private var arrivals = 0

    /// Has every waiting thread fault again: the server before this one may have read a fault and not answered it.
    func wakeAll() {
        let low: UInt64 = 1 << 16
        smi_uffd_wake(userfault.raw, low, (1 << 47) - 4096 - low)
    }

    // MARK: events

    /// Reads and answers what the process waits for; a child made by fork is returned for the server to take up.
    ///
    /// Returns how many faults there were.
    func drainEvents(makeChild: (ServedSpace, Descriptor) throws -> Void) throws -> Int {
        var faults = 0
        while !isGone {
            var event = smi_uffd_event()
            journal.beginEvent()
            let result = smi_uffd_next_event(userfault.raw, &event)
            if result == 1, UInt32(event.kind) == SMI_UFFD_FAULT.rawValue {
                // A fault that is never answered is asked again by whoever takes over; nothing is in doubt.
                journal.endEvent()
                let page = event.start / 4096
                resolve(page)
                near = page + 1..<page + 1 + readAhead.faulted(on: page)
                faults += 1
                continue
            }
            if result == 1 { try handle(event, makeChild) }
            journal.endEvent()
            if result == 0 { return faults }
            guard result == 1 else {
                isGone = true
                return faults
            }
        }
        return faults
    }

    private func handle(_ event: smi_uffd_event, _ makeChild: (ServedSpace, Descriptor) throws -> Void) throws {
        switch UInt32(event.kind) {
        case SMI_UFFD_FORK.rawValue:
            try makeChild(self, Descriptor(owning: event.fork_fd))
        case SMI_UFFD_REMAP.rawValue:
            let first = event.start / 4096
            note(.moved(first..<first + event.length / 4096, to: event.end / 4096))
        case SMI_UFFD_UNMAP.rawValue:
            note(.unmapped(event.start / 4096..<event.end / 4096))
        default:
            note(.removed(event.start / 4096..<event.end / 4096))
        }
    }

    /// Pages are there already, as they are in the backing file.
    func note(inherited pages: [Range<UInt64>]) {
        extents.remove(pages)
        // Mappings are looked at in order of address.
        unconfirmed += pages
        inheritedPages += pageCount(pages)
    }

    private func note(_ change: PageJournal.Change) {
        journal.note(change)
        extents.apply(change)
    }

    /// Answers a fault: from the backing file, with zeros where it has no such page, later where it is still to come.
    private func resolve(_ page: UInt64) {
        let result: Int64
        if let stored = extents.source(of: page) {
            if source.isLate(stored) {
                waiting.append(page)
                source.want(stored)
                return
            }
            guard read(stored, 0) else { return }
            result = copy(to: page, slot: 0, count: 1)
        } else {
            result = smi_uffd_zero(userfault.raw, page * 4096, 4096, 1)
        }
        switch result {
        // There already, or no longer mapped: the thread looks again.
        case -Int64(EEXIST), -Int64(ENOENT): smi_uffd_wake(userfault.raw, page * 4096, 4096)
        // Events wait in front: they may move or drop this very page.
        case -Int64(EAGAIN): delayed.append(page)
        case -Int64(ESRCH): isGone = true
        default: break
        }
    }

    /// Looks again at faults that could not be answered: late pages may have arrived.
    func retryWaiting() {
        let (arrived, isWhole) = source.arrivals(after: arrivals)
        arrivals += arrived.count
        // What the process has moved since is found by the cursor, once nothing is late any more.
        fresh = arrived.reversed() + fresh
        if isWhole { (isStalled, isDry) = (false, false) }
        let pages = waiting
        waiting.removeAll()
        for page in pages { resolve(page) }
    }

    /// The same for faults that only waited for an event in front of them.
    func retryEvents() {
        guard !delayed.isEmpty else { return }
        let pages = delayed
        delayed.removeAll()
        for page in pages { resolve(page) }
    }

    /// Why pages cannot be served, once.
    func takeFailure() -> PageInError? {
        guard !isFailureReported, let failure else { return nil }
        isFailureReported = true
        return failure
    }

    private func read(_ stored: UInt64, _ slot: Int) -> Bool {
        guard let base = buffer.baseAddress else { return false }
        do throws(PageStoreError) {
            if try source.store.read(stored, into: base + slot * 4096) { return true }
            failure = PageInError(pid: pid, page: stored, cause: "the backing file has lost a page that it listed")
        } catch {
            // Never served: the process goes on waiting until whoever owns it decides.
            failure = PageInError(pid: pid, page: stored, cause: error.cause)
        }
        return false
    }

    /// Copies pages from the buffer into the process, protected where writes are tracked.
    private func copy(to page: UInt64, slot: Int, count: UInt64) -> Int64 {
        let data = buffer.baseAddress.map { $0 + slot * 4096 }
        let result = smi_uffd_copy(userfault.raw, page * 4096, data, count * 4096, isTracking ? 1 : 0, 1)
        guard isTracking, result == -Int64(EINVAL) else { return result }
        // A mapping that could not be registered for protection: its pages count as written.
        return smi_uffd_copy(userfault.raw, page * 4096, data, count * 4096, 0, 1)
    }

    // MARK: pushing

    /// Copies the next pages in: those behind a fault, then, `limit` at most, hot ones and the rest in order of address.
    func push(limit: UInt64) {
        var left = limit
        if !isGone, failure == nil, let run = runBehindFault() {
            left -= min(left, run.count)
            guard push(run) else { return }
        }
        while left > 0, !isGone, failure == nil, let run = nextRun(limit: left) {
            left -= run.count
            guard push(run) else { return }
        }
    }

    /// Copies pages in; false where no more can be pushed now.
    private func push(_ run: PageExtents.Extent) -> Bool {
        for i in 0..<Int(run.count) where !read(run.source + UInt64(i), i) { return false }
        var done: UInt64 = 0
        var piece = run.count
        var refusals = 0
        while done < run.count {
            piece = min(piece, run.count - done)
            let result = copy(to: run.start + done, slot: Int(done), count: piece)
            switch result {
            case 1...:
                done += UInt64(result) / 4096
                refusals = 0
            case -Int64(EEXIST):
                done += 1
                refusals = 0
            // One copy stays within one mapping: go on page by page. A page outside any will never be asked for; but one
            // that mremap was moving just then is refused like it, and only asked again its event stands in front.
            case -Int64(ENOENT), -Int64(EINVAL):
                refusals = piece == 1 ? refusals + 1 : 0
                piece = 1
                guard refusals == 2 else { continue }
                done += 1
                refusals = 0
            case -Int64(ESRCH):
                isGone = true
                return false
            // EAGAIN: an event waits to be read, and decides about these pages.
            default:
                extents.remove(run.start..<run.start + done)
                return false
            }
        }
        extents.remove(run.start..<run.start + run.count)
        return true
    }

    /// The pages behind the last fault, once, as far as they lie together.
    private func runBehindFault() -> PageExtents.Extent? {
        guard let pages = near else { return nil }
        near = nil
        guard var run = extents.run(from: pages.lowerBound, limit: UInt64(pages.count)), run.start < pages.upperBound
        else { return nil }
        run.count = min(run.count, pages.upperBound - run.start)
        let (isLate, count) = source.alike(from: run.source, count: run.count)
        guard !isLate else { return nil }
        run.count = count
        return run
    }

    private func nextRun(limit: UInt64) -> PageExtents.Extent? {
        while let page = fresh.popLast() {
            if extents.source(of: page) == page { return PageExtents.Extent(start: page, count: 1, source: page) }
        }
        while let page = hot.popFirst() {
            if let stored = extents.source(of: page), !source.isLate(stored) {
                return PageExtents.Extent(start: page, count: 1, source: stored)
            }
        }
        // Faults are looked at in between, however many late pages there are.
        for _ in 0..<Self.mostSteps {
            guard var run = extents.run(from: cursor, limit: limit) else {
                isStalled = isDry
                isDry.toggle()
                cursor = 0
                if isStalled { return nil }
                continue
            }
            let (isLate, count) = source.alike(from: run.source, count: run.count)
            cursor = run.start + count
            if !isLate {
                isDry = false
                run.count = count
                return run
            }
        }
        return nil
    }
}
