import CLinux
import Glibc
import LinuxSystem

/// The tracking of one process: its userfaultfd, and what a scan of it finds.
///
/// Used by one thread at a time: `DirtyTracker` holds its lock around it.
final class TrackedProcess {
    /// Bytes of shared mappings that are tracked at most: the marks on 2 GB, holes too, take 4 MB of the kernel's memory.
    private static let mostShared = 2 << 30

    /// How long a thread may take to stop for the injection, milliseconds; it usually takes 0.1.
    private static let attachTimeout: Int32 = 200

    let pid: pid_t
    let startTime: UInt64
    private var uffd: Descriptor?
    /// The userfaultfd has been through no scan yet.
    ///
    /// What can be tracked already is so by another's: page-in's, of a parent that has forked this process. Some of it is
    /// protected, and has never been read.
    private var isNew = false
    /// Pages that were found written before this tracker's first scan.
    private var unreported: [Range<UInt64>] = []
    /// One injection a round is enough: a process that cannot be injected now is read whole in this round.
    private var isAttachAllowed = false
    /// /proc/PID/maps, open during a scan: an exec replaces the memory it is about.
    private var maps: Descriptor?

    init(pid: pid_t, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }

    /// Whether writes are being tracked (else every present page counts as written).
    var isTracked: Bool { uffd != nil }

    /// The time a process started, in clock ticks (field 22 of /proc/PID/stat), and whether it is a zombie.
    static func identity(of pid: pid_t) -> (startTime: UInt64, isZombie: Bool)? {
        let fields = statistics(of: pid)
        guard fields.count > 19, let start = UInt64(fields[19]) else { return nil }
        return (start, fields[0] == "Z" || fields[0] == "X")
    }

    /// The process that made this one; nil if it is gone.
    static func parent(of pid: pid_t) -> pid_t? {
        let fields = statistics(of: pid)
        return fields.count > 1 ? pid_t(fields[1]) : nil
    }

    /// The fields of /proc/PID/stat from the third, the state, on.
    private static func statistics(of pid: pid_t) -> [Substring] {
        guard let file = fopen("/proc/\(pid)/stat", "re") else { return [] }
        defer { fclose(file) }
        var line = [UInt8](repeating: 0, count: 1024)
        let length = fread(&line, 1, line.count, file)
        let text = String(decoding: line[..<length], as: UTF8.self)
        // The command's name, in parentheses, may hold anything.
        guard let close = text.lastIndex(of: ")") else { return [] }
        return text[text.index(after: close)...].split(separator: " ")
    }

    /// Whether two processes share one memory (between vfork and exec).
    static func sharesMemory(_ a: pid_t, _ b: pid_t) -> Bool {
        smi_same_memory(a, b) == 1
    }

    /// Injects a userfaultfd; without success the process stays untracked until the next round.
    private func attach() {
        detach()
        uffd = Self.injected(into: pid)
        isNew = true
    }

    /// A new userfaultfd of a running process, with asynchronous write protection and no events.
    static func injected(into pid: pid_t) -> Descriptor? {
        // User-mode only suits every target: asynchronous protection never asks the handler anyway.
        let raw = smi_inject_userfaultfd(pid, 1, attachTimeout)
        guard raw >= 0 else { return nil }
        let descriptor = Descriptor(owning: raw)
        return smi_uffd_api_async(raw) == 0 ? descriptor : nil
    }

    /// Takes over a userfaultfd of the process that has asynchronous write protection enabled, and pages that have been
    /// found written and not been reported.
    func adopt(_ descriptor: Descriptor, written: [Range<UInt64>]) {
        uffd = descriptor
        unreported = written
    }

    /// Forgets the userfaultfd: the kernel unprotects everything.
    func detach() {
        uffd = nil
    }

    /// One round: pages written since the last one, and, if wanted, all that are present.
    ///
    /// Without `mayAttach` an untracked process stays so: all that is present counts as written.
    func scan(presence: Bool, mayAttach: Bool) throws(SyscallError) -> ProcessDirty {
        isAttachAllowed = mayAttach
        var dirty: [smi_region] = []
        var present: [smi_region] = []
        let mappings = try Mapping.all(of: pid)
        maps = try Descriptor(open: "/proc/\(pid)/maps", O_RDONLY)
        defer { maps = nil }
        var scan = try MemoryScan(pid: pid)
        for mapping in mappings where mapping.isPrivate {
            try written(mapping, &scan, &dirty)
            guard presence else { continue }
            let first = present.count
            try scan.present(mapping, into: &present)
            // Over a file, what looks swapped out may be the mark that the kernel leaves where a protected page was
            // dropped: the file's own content shows through. Reading it again is right for both.
            guard mapping.inode != 0 else { continue }
            dirty += present[first...].filter { $0.categories & UInt64(SMI_PAGE_PRESENT.rawValue) == 0 }
        }
        var shared: [Range<UInt64>: [Range<UInt64>]] = [:]
        var budget = Self.mostShared
        for mapping in mappings where mapping.isShared && mapping.sharedObject != nil && mapping.range.count <= budget {
            budget -= mapping.range.count
            shared[mapping.range] = sharedWritten(mapping.range, &scan)
        }
        defer { (unreported, isNew) = ([], false) }
        return ProcessDirty(
            pid: pid,
            startTime: startTime,
            isTracked: isTracked,
            dirty: normalized(dirty.map(\.pages) + unreported),
            present: presence ? present.map(\.pages) : nil,
            mappings: mappings,
            sharedWritten: shared
        )
    }

    /// Pages of a mapping of shared memory that may have been written since the last round; nil where that is not known,
    /// and from now on is.
    private func sharedWritten(
        _ range: Range<UInt64>,
        _ scan: inout MemoryScan
    ) -> [Range<UInt64>]? {
        var found: [smi_region] = []
        if uffd != nil, !isNew, (try? scan.sharedWritten(range, into: &found)) != nil {
            return normalized(found.map(\.pages))
        }
        // Whatever this leaves unprotected is reported in the next round.
        if register(range) { _ = try? scan.sharedWritten(range, into: &found) }
        return nil
    }

    private func written(
        _ mapping: Mapping,
        _ scan: inout MemoryScan,
        _ dirty: inout [smi_region]
    ) throws(SyscallError) {
        if uffd != nil, !isNew {
            var found: [smi_region] = []
            if (try? scan.written(mapping.range, isAnonymous: mapping.inode == 0, into: &found)) != nil {
                dirty += found
                return
            }
        }
        // Not registered (new, moved, or of a program started by exec), or by another, or changed while it was scanned:
        // register it, protect it, then take everything that is present, which also covers what the failed scan did not
        // report.
        if register(mapping.range) {
            var ignored: [smi_region] = []
            if (try? scan.written(mapping.range, isAnonymous: mapping.inode == 0, into: &ignored)) == nil {
                // Registered, and yet not: the userfaultfd is of a memory that this process has left. Start anew.
                detach()
            }
        }
        try scan.present(mapping, into: &dirty)
    }

    private func register(_ range: Range<UInt64>) -> Bool {
        var result = registerOnce(range)
        // No userfaultfd yet, or one of a memory that an exec has replaced.
        if result == -ESRCH, isAttachAllowed {
            isAttachAllowed = false
            attach()
            result = registerOnce(range)
        }
        return result == 0
    }

    private func isMapping(_ range: Range<UInt64>) -> Bool {
        maps.map { Mapping.exists(range, in: $0) } ?? false
    }

    /// Registers a range and clears its protection: mremap can merge a registered mapping into one that is not, whose
    /// pages stay marked as protected while writes go through unseen.
    ///
    /// Registering a part of a mapping would split it, and mremap(2) of the whole then fails (EFAULT) in the program: a
    /// mapping that has changed since the list was read is left for the next round.
    private func registerOnce(_ range: Range<UInt64>) -> Int32 {
        guard let uffd else { return -ESRCH }
        guard isMapping(range) else { return -EAGAIN }
        let mode = Int32(SMI_UFFD_WP.rawValue)
        let result = smi_uffd_register(uffd.raw, range.lowerBound, range.upperBound, mode)
        guard result == 0 else { return result }
        guard isMapping(range) else {
            // It changed in these microseconds; the kernel merges again what is the same again.
            _ = smi_uffd_unregister(uffd.raw, range.lowerBound, range.upperBound)
            return -EAGAIN
        }
        return smi_uffd_protect(uffd.raw, range.lowerBound, range.upperBound, 0)
    }
}

extension smi_region {
    /// As page numbers.
    var pages: Range<UInt64> { start / 4096..<end / 4096 }
}

/// The same pages as sorted, disjoint ranges.
package func normalized(_ ranges: [Range<UInt64>]) -> [Range<UInt64>] {
    var result: [Range<UInt64>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
        if let last = result.last, range.lowerBound <= last.upperBound {
            result[result.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
        } else {
            result.append(range)
        }
    }
    return result
}
