import CLinux
import CPageStore
import Glibc
import LinuxSystem

/// An object of shared memory, open for one round.
struct SharedMemory {
    /// Pages read at a time.
    private static let batch = 64

    private let file: Descriptor
    let state: smi_shared_state
    /// The name it was made with.
    let name: String

    /// Opens what a path below /proc leads to; nil where it is something else by now.
    init?(_ sighting: SharedSighting) {
        // Reading must not look like another mmap(2): access times stay as they are.
        let raw = smi_shared_open(sighting.path)
        guard raw >= 0 else { return nil }
        file = Descriptor(owning: raw)
        guard let name = Self.name(of: sighting.path) else { return nil }
        var state = smi_shared_state()
        guard smi_shared_look(file.raw, &state) == 0, state.inode == sighting.object.inode else { return nil }
        self.state = state
        self.name = name
    }

    /// The name in a link such as `/memfd:NAME (deleted)`, `/dev/zero (deleted)` or `/SYSV00000000 (deleted)`; nil for
    /// other files.
    static func name(of path: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 512)
        let length = readlink(path, &buffer, buffer.count)
        guard length > 0 else { return nil }
        var text = String(decoding: buffer[..<length], as: UTF8.self)
        guard ["/memfd:", "/dev/zero", "/SYSV"].contains(where: text.hasPrefix) else { return nil }
        if text.hasSuffix(" (deleted)") { text.removeLast(10) }
        return text.hasPrefix("/memfd:") ? String(text.dropFirst(7)) : text
    }

    /// It has no descriptor in any program: those who open it nevertheless do so by name.
    var isAnonymous: Bool { name == "/dev/zero" }

    /// Watches it for changes that are not made through mappings.
    func watched() -> ModifyWatch.Mark? { ModifyWatch.host.mark(file.raw) }

    /// Pages that exist, as sorted ranges.
    func present() throws(SyscallError) -> [Range<UInt64>] {
        let end = (state.size + 4095) / 4096
        var spans = [smi_span](repeating: smi_span(), count: 256)
        var from: UInt64 = 0
        var ranges: [Range<UInt64>] = []
        while from < end {
            let count = smi_shared_present(file.raw, &from, &spans, spans.count)
            guard count >= 0 else { throw SyscallError("lseek", code: Int32(-count), subject: name) }
            // What was allocated beyond the end is not its content.
            ranges += spans[..<count].compactMap { $0.first < min($0.end, end) ? $0.first..<min($0.end, end) : nil }
        }
        return ranges
    }

    /// Pages among these that differ from what a store holds.
    func differing(_ pages: [Range<UInt64>], from store: PageStore) throws -> [Range<UInt64>] {
        var numbers = [UInt64](repeating: 0, count: Self.batch)
        var result: [Range<UInt64>] = []
        try read(pages) { first, count, data in
            let found = smi_ps_differing(store.handle, first, data, count, &numbers)
            result += normalized(numbers[..<found].map { $0..<$0 + 1 })
        }
        return normalized(result)
    }

    /// Reads pages, a batch of neighbours at a time.
    func read(
        _ pages: [Range<UInt64>],
        _ body: (_ first: UInt64, _ count: Int, UnsafeRawPointer) throws -> Void
    ) throws {
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: Self.batch * 4096, alignment: 4096)
        defer { buffer.deallocate() }
        for range in pages {
            for first in stride(from: range.lowerBound, to: range.upperBound, by: Self.batch) {
                let count = min(Self.batch, Int(range.upperBound - first))
                try read(first, count, into: buffer)
                try body(first, count, buffer)
            }
        }
    }

    /// Reads pages, a batch of any at a time.
    func gather(_ pages: [Range<UInt64>], _ body: (_ pages: [UInt64], UnsafeRawPointer) throws -> Void) throws {
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: Self.batch * 4096, alignment: 4096)
        defer { buffer.deallocate() }
        var numbers: [UInt64] = []
        for range in pages {
            var first = range.lowerBound
            while first < range.upperBound {
                let count = min(Self.batch - numbers.count, Int(range.upperBound - first))
                try read(first, count, into: buffer + numbers.count * 4096)
                numbers += first..<first + UInt64(count)
                first += UInt64(count)
                guard numbers.count == Self.batch else { continue }
                try body(numbers, buffer)
                numbers = []
            }
        }
        if !numbers.isEmpty { try body(numbers, buffer) }
    }

    private func read(_ first: UInt64, _ count: Int, into buffer: UnsafeMutableRawPointer) throws(SyscallError) {
        let result = smi_shared_read(file.raw, first, count, buffer)
        guard result == 0 else { throw SyscallError("read", code: -result, subject: name) }
    }
}
