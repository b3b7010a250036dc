import CLinux
import Glibc
import LinuxSystem

/// A mapping of a process that goes over from page-in's userfaultfd to the tracker's while the process is stopped.
struct RetrackedPart: Sendable, Equatable {
    /// Pages that one stop takes, but for a mapping that is larger: 32 MB are about 1.4 ms.
    static let pagesInStop = 8192
    /// Mappings of more pages are read.
    ///
    /// A stop for each part of one would do, but splits it meanwhile, so that mremap(2) of all of it, and with it
    /// realloc(3), would fail in the program.
    static let most = 16384
    /// What a mapping takes beside its pages, in pages.
    static let overhead = 64
    /// Mappings of so few pages are read sooner than they are gone over with their process stopped.
    static let fewest = 32

    /// Addresses.
    let range: Range<UInt64>
    /// Present pages.
    let pages: Int

    /// Nil where the mapping's pages are to be read instead.
    init?(_ mapping: Range<UInt64>, present: [Range<UInt64>]) {
        range = mapping
        pages = pageCount(present)
        guard pages >= Self.fewest, pages <= Self.most else { return nil }
    }
}

/// A restored process whose writes were tracked while its pages came in, and are to be tracked on once they are.
///
/// Page-in's userfaultfd waits for what it does not know: it cannot stay. Taking its registration away clears all
/// protection, and there is no way to give up a part of it, so that for a moment writes would be missed: the process is
/// stopped for that moment, again and again for mapping after mapping.
package struct RetrackedProcess: Sendable {
    let process: FlushedProcess
    let startTime: UInt64
    /// The tracker's own: no events, nothing waits for it.
    let userfault: Descriptor
    let parts: [RetrackedPart]

    /// Gives a running process a userfaultfd and looks at what is present; nil where it cannot be done now.
    ///
    /// Blocks.
    package init?(_ process: FlushedProcess) {
        let pid = process.hostPid
        guard let identity = TrackedProcess.identity(of: pid), !identity.isZombie,
            let mappings = try? Mapping.all(of: pid), var scan = try? MemoryScan(pid: pid)
        else { return nil }
        var parts: [RetrackedPart] = []
        for mapping in mappings where mapping.isPrivate && mapping.inode == 0 {
            var present: [smi_region] = []
            guard (try? scan.present(mapping, into: &present)) != nil else { return nil }
            if let part = RetrackedPart(mapping.range, present: present.map(\.pages)) { parts.append(part) }
        }
        guard !parts.isEmpty, let userfault = TrackedProcess.injected(into: pid) else { return nil }
        self.process = process
        startTime = identity.startTime
        self.userfault = userfault
        self.parts = parts
    }
}

/// What is done while the processes are stopped once: a few mappings, of one process or several.
package struct RetrackingStop: Sendable {
    /// Each with the index of its process.
    let parts: [(process: Int, part: RetrackedPart)]

    /// The stops that processes need, in order.
    package static func all(for processes: [RetrackedProcess]) -> [RetrackingStop] {
        var result: [RetrackingStop] = []
        var parts: [(process: Int, part: RetrackedPart)] = []
        var weight = 0
        for (index, process) in processes.enumerated() {
            for part in process.parts {
                let more = part.pages + RetrackedPart.overhead
                if weight + more > RetrackedPart.pagesInStop + RetrackedPart.overhead, !parts.isEmpty {
                    result.append(RetrackingStop(parts: parts))
                    (parts, weight) = ([], 0)
                }
                parts.append((index, part))
                weight += more
            }
        }
        if !parts.isEmpty { result.append(RetrackingStop(parts: parts)) }
        return result
    }
}

/// A process that is tracked on, for ``DirtyTracker/adopt(_:)``.
package struct AdoptedProcess: Sendable {
    let pid: pid_t
    let startTime: UInt64
    let userfault: Descriptor
    /// Pages that may be other than in the backing file: written since the restore, or moved.
    let written: [Range<UInt64>]
    /// Pages that it had when it was restored, without their having come in.
    package let inheritedPages: Int

    /// How many pages may be other.
    package var writtenPages: Int { pageCount(written) }
}

extension ServedSpace {
    /// Has the process's writes tracked from now on: its private mappings are registered for write protection too.
    ///
    /// The process must be stopped. What is in already counts as written, but for what it has inherited: that is found out
    /// by `PageServer.confirmInherited`.
    func startTracking(hostPid: pid_t) throws {
        let mode = Int32(SMI_UFFD_MISSING.rawValue | SMI_UFFD_WP.rawValue)
        var view = try InheritedView(source.inherited, of: hostPid)
        var isAsynchronous = false
        for mapping in try Mapping.all(of: hostPid) where mapping.isPrivate && mapping.inode == 0 {
            let (start, end) = (mapping.range.lowerBound, mapping.range.upperBound)
            guard smi_uffd_register(userfault.raw, start, end, mode) == 0 else { continue }
            if view.mayHave(mapping) {
                guard let found = try? view.look(at: mapping) else {
                    // Some of it may be protected now: nothing is known of what is written.
                    written.append(start / 4096..<end / 4096)
                    continue
                }
                written += found.others
                note(inherited: found.inherited)
                isAsynchronous = true
            } else if !isAsynchronous {
                // It is refused where the kernel would have each write to a protected page wait for an answer. Pages are
                // found written later, as they are not protected: here the program waits.
                var found: [smi_region] = []
                guard (try? view.scan.written(start..<start + 4096, isAnonymous: true, into: &found)) != nil
                else { continue }
                written += found.map(\.pages)
                isAsynchronous = true
            }
        }
        guard isAsynchronous else {
            throw PageInError(pid: pid, page: nil, cause: "CRIU's userfaultfd does not track writes")
        }
        isTracking = true
        self.hostPid = hostPid
    }

    /// Notes which of some inherited pages were written before tracking began; the others of them were not.
    func confirm(_ pages: [Range<UInt64>], written own: [Range<UInt64>]) {
        written += own
        unconfirmed = subtract(pages, from: unconfirmed)
    }

    /// Notes what has been written in a part so far; false where it cannot be taken over.
    ///
    /// A scan that fails midway may have protected pages that it has not reported.
    func lookAhead(_ part: RetrackedPart, _ view: inout OpenedView) -> Bool {
        guard view.has(part.range) else { return false }
        var found: [smi_region] = []
        guard (try? view.scan.written(part.range, isAnonymous: true, into: &found)) != nil else { return false }
        written += found.map(\.pages)
        return true
    }

    /// Takes a part of the memory over to the tracker's userfaultfd, after `lookAhead`; the process is stopped.
    ///
    /// Whatever fails leaves the part untracked or as it was: the tracker then takes all of it for written.
    func retrack(_ part: RetrackedPart, to tracker: Descriptor, _ view: inout OpenedView) -> Bool {
        let (start, end) = (part.range.lowerBound, part.range.upperBound)
        guard lookAhead(part, &view), smi_uffd_unregister(userfault.raw, start, end) == 0,
            smi_uffd_register(tracker.raw, start, end, Int32(SMI_UFFD_WP.rawValue)) == 0
        else { return false }
        // Everything is reported, as nothing is protected any more. What was written is known already.
        var known: [smi_region] = []
        return (try? view.scan.written(part.range, isAnonymous: true, into: &known)) != nil
    }

    /// Where mremap has moved pages: what is there is in the backing file under other numbers.
    var moved: [Range<UInt64>] {
        journal.changes.compactMap { change in
            if case .moved(let range, let start) = change { start..<start + UInt64(range.count) } else { nil }
        }
    }
}

/// What of a process has to be open; opened anew once it is stopped, as an exec would replace the memory behind it.
struct OpenedView {
    var scan: MemoryScan
    private let maps: Descriptor

    init(pid: pid_t) throws(SyscallError) {
        scan = try MemoryScan(pid: pid)
        maps = try Descriptor(open: "/proc/\(pid)/maps", O_RDONLY)
    }

    func has(_ mapping: Range<UInt64>) -> Bool {
        Mapping.exists(mapping, in: maps)
    }
}
