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
                let result = smi_shared_read(file.raw, first, count, buffer)
                guard result == 0 else { throw SyscallError("read", code: -result, subject: name) }
                try body(first, count, buffer)
            }
        }
    }
}
