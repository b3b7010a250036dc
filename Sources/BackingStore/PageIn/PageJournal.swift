import CLinux
import Glibc
import LinuxSystem

/// What a process did to its address space while its pages were coming in, in memory that outlives the page server.
///
/// A server that takes over from one that died has to know which pages were dropped or moved since; this is the list.
/// An event that was read but perhaps not noted leaves the journal in doubt, and the process must not go on.
// SAFETY: used by the server's one thread.
final class PageJournal: @unchecked Sendable {
    private static let size = 1 << 18
    private static let entryWords = 4
    private static let capacity = (size / 8 - 2) / entryWords

    let file: Descriptor
    private let words: UnsafeMutablePointer<UInt64>

    /// One change, in page numbers.
    enum Change: Equatable {
        case removed(Range<UInt64>)
        case unmapped(Range<UInt64>)
        case moved(Range<UInt64>, to: UInt64)
    }

    convenience init() throws(SyscallError) {
        let raw = try syscall("memfd_create") { smi_memfd("page-journal") }
        let file = Descriptor(owning: raw)
        try syscall("ftruncate") { ftruncate(raw, off_t(Self.size)) }
        try self.init(file)
    }

    init(_ file: Descriptor) throws(SyscallError) {
        guard let memory = mmap(nil, Self.size, PROT_READ | PROT_WRITE, MAP_SHARED, file.raw, 0), memory != MAP_FAILED
        else { throw SyscallError("mmap") }
        self.file = file
        words = memory.bindMemory(to: UInt64.self, capacity: Self.size / 8)
    }

    deinit {
        munmap(words, Self.size)
    }

    /// Whether an event may have been lost.
    var isInDoubt: Bool { words[0] != 0 }

    /// Call before reading an event, and `endEvent` when all that it means has been done.
    func beginEvent() {
        words[0] |= 1
    }

    func endEvent() {
        words[0] &= ~1
    }

    func note(_ change: Change) {
        guard words[1] < UInt64(Self.capacity) else {
            words[0] |= 2
            return
        }
        let entry = words + 2 + Int(words[1]) * Self.entryWords
        switch change {
        case .removed(let range):
            (entry[0], entry[1], entry[2], entry[3]) = (1, range.lowerBound, range.upperBound, 0)
        case .moved(let range, let start):
            (entry[0], entry[1], entry[2], entry[3]) = (2, range.lowerBound, range.upperBound, start)
        case .unmapped(let range):
            (entry[0], entry[1], entry[2], entry[3]) = (3, range.lowerBound, range.upperBound, 0)
        }
        words[1] += 1
    }

    var changes: [Change] {
        (0..<min(Int(words[1]), Self.capacity)).map { i in
            let entry = words + 2 + i * Self.entryWords
            let range = entry[1]..<max(entry[1], entry[2])
            switch entry[0] {
            case 1: return .removed(range)
            case 2: return .moved(range, to: entry[3])
            default: return .unmapped(range)
            }
        }
    }

    /// A journal of its own with the same entries, for a forked child.
    func copy() throws(SyscallError) -> PageJournal {
        let other = try PageJournal()
        for i in 1..<2 + Int(words[1]) * Self.entryWords { other.words[i] = words[i] }
        other.words[0] = words[0] & 2
        return other
    }
}
