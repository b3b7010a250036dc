import Glibc
import LinuxSystem

/// The file beside an SMI's backing files that says which pages their epoch lacks, until these have come.
///
/// It is written before the epoch is noted and removed after the next one is; one that names another epoch counts for nothing.
struct LateFile {
    private let path: String

    init(_ directory: EpochDirectory) {
        path = directory.path + "/late"
    }

    /// Notes what an epoch lacks.
    func write(_ pages: [Int32: [Range<UInt64>]], of epoch: UInt64) throws(SyscallError) {
        var bytes: [UInt8] = []
        let messages = pages.map { EpochMessage.late(process: $0, pages: $1) }
        for message in [.begin(epoch: epoch, quick: true)] + messages {
            let encoded = message.encoded()
            withUnsafeBytes(of: UInt32(encoded.count).littleEndian) { bytes += $0 }
            bytes += encoded
        }
        try FileContents.replace(path, with: bytes)
    }

    /// What an epoch lacks; nothing where it is whole.
    func pages(of epoch: UInt64) -> [Int32: [Range<UInt64>]] {
        guard let bytes = try? FileContents.bytes(of: path) else { return [:] }
        var pages: [Int32: [Range<UInt64>]] = [:]
        var rest = bytes[...]
        while rest.count >= 4 {
            let length = rest.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
            rest = rest.dropFirst(4)
            guard length <= rest.count, let message = try? EpochMessage(decoding: Array(rest.prefix(length))) else {
                return [:]
            }
            rest = rest.dropFirst(length)
            switch message {
            case .begin(let named, _) where named != epoch: return [:]
            case .late(let process, let ranges): pages[process] = ranges
            default: break
            }
        }
        return pages
    }

    /// Nothing is lacking any more.
    func remove() {
        unlink(path)
    }
}

extension EpochDirectory {
    /// Whether the noted epoch lacks pages.
    package var isLacking: Bool { !LateFile(self).pages(of: epoch).isEmpty }
}
