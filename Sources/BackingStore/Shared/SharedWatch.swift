import CLinux
import Glibc

/// The moment at which a round begins, before its processes are listed and looked at.
struct SharedGlance {
    /// Where the watches were: what happens from here on is found later.
    let forks = ForkWatch.host.look()
    let changes = ModifyWatch.host.look()
    let realtime = smi_realtime()
}

/// What a round has found of writes to shared memory.
struct SharedWrites {
    /// Pages written through mappings that are tracked, by process and mapping.
    let pages: [ProcessKey: [Range<UInt64>: [Range<UInt64>]]]
    /// A process has a queue of asynchronous I/O: what io_submit(2) writes nobody tells of.
    let mayBeQueued: Bool

    init(_ processes: [ProcessDirty]) {
        pages = Dictionary(processes.map { ($0.key, $0.sharedWritten) }) { first, _ in first }
        mayBeQueued = processes.contains { $0.mappings.contains { $0.name.hasPrefix("/[aio]") } }
    }
}

/// Whether what changed in an object of shared memory since the last round is known page by page.
///
/// Writes through mappings that stay are tracked. Everything else is noticed, and the object is then compared whole:
/// - write(2), fallocate(2), ftruncate(2): `ModifyWatch` tells of them, or, where it does not hear them, the times that
///   they change, as writes through mappings do too; so do those of io_submit(2), of which it hears nothing;
/// - mmap(2) and shmat(2) change the access time, so that a mapping that came and went is noticed;
/// - a mapping that is gone, or is new, is seen in the lists of mappings;
/// - a child inherits mappings and may end before it is seen: `ForkWatch` tells of it.
struct SharedWatch {
    /// Kernel times move in steps of a tick, 10 ms at most: what is younger says nothing about what came after it.
    private static let tick: Int64 = 20_000_000
    /// In live rounds comparing takes at most one part in so many of the time.
    private static let share: Int64 = 20

    private struct Seen {
        let state: smi_shared_state
        let uses: Set<SharedUse>
        let glance: SharedGlance
    }

    private let isHeard: Bool
    private var mark: ModifyWatch.Mark?
    private var isSegment = false
    private var last: Seen?
    private var compareAgain: Int64 = .min

    /// Watches an object.
    ///
    /// `isRestored`: every descriptor of it was opened by name, as a restore does it with the memfds that were filled before.
    init(isRestored: Bool) {
        isHeard = isRestored || ModifyWatch.host.hearsCreators
    }

    /// Takes in a round, and gives the pages of the object written since the last one; nil where that is not known.
    mutating func written(
        _ sighting: SharedSighting,
        _ memory: SharedMemory,
        _ written: SharedWrites,
        _ glance: SharedGlance
    ) -> [Range<UInt64>]? {
        // Nothing but mappings leads to a segment.
        isSegment = sighting.object.kind == .segment
        if mark == nil, !isSegment, isHeard || memory.isAnonymous { mark = memory.watched() }
        // Queued writes go through descriptors, and are not told of.
        let isTold = isSegment || mark != nil && (memory.isAnonymous || !written.mayBeQueued)
        let seen = Seen(state: memory.state, uses: Set(sighting.uses), glance: glance)
        defer { last = seen }
        guard let pages = Self.tracked(seen.uses, written.pages), let last,
            isOnlyMapped(since: last, until: seen, pages, isTold)
        else { return nil }
        return pages
    }

    /// Pages written through mappings; nil where one of them was not tracked.
    private static func tracked(
        _ uses: Set<SharedUse>,
        _ written: [ProcessKey: [Range<UInt64>: [Range<UInt64>]]]
    ) -> [Range<UInt64>]? {
        var pages: [Range<UInt64>] = []
        for use in uses where use.isShared {
            guard let found = written[use.process]?[use.range] else { return nil }
            // An object may be mapped below its own offset: arithmetic on addresses wraps around.
            let shift = use.offset / 4096 &- use.range.lowerBound / 4096
            pages += found.map { $0.lowerBound &+ shift..<$0.upperBound &+ shift }
        }
        return normalized(pages)
    }

    /// Whether nothing but the mappings that are still there can have changed the object; `isTold`: other changes are told
    /// of.
    private func isOnlyMapped(since last: Seen, until now: Seen, _ pages: [Range<UInt64>], _ isTold: Bool) -> Bool {
        let (old, new) = (last.state, now.state)
        guard old.size == new.size, old.accessed == new.accessed,
            old.accessed < last.glance.realtime - Self.tick,
            last.uses.isSubset(of: now.uses),
            !ForkWatch.host.hasForked(Set(last.uses.map(\.process.pid)), since: last.glance.forks)
        else { return false }
        if let mark, ModifyWatch.host.isModified(mark, since: last.glance.changes) { return false }
        let isChanged = (old.modified, old.changed) != (new.modified, new.changed)
        guard isTold else {
            // What changes the times is not known; what does so within a tick does not even change them.
            return !isChanged && max(old.modified, old.changed) < last.glance.realtime - Self.tick
        }
        // Something has changed it: a mapping that is tracked, or what nobody watches.
        return !isChanged || !pages.isEmpty
    }

    /// Forgets what was seen: the next round is not built upon this one.
    mutating func forget() {
        last = nil
    }

    /// Whether a live round may compare: a large object that is written in ways that cannot be tracked would take all
    /// the time of one processor.
    func mayCompare(at now: Int64) -> Bool { now >= compareAgain }

    /// Takes in how long a comparison took.
    mutating func compared(at start: Int64, taking duration: Int64) {
        compareAgain = start + duration * Self.share
    }
}
