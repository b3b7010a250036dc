import Glibc
import LinuxSystem
import Synchronization

/// CRIU's images of a cut as one stream: per file `u16` length of its name, the name, `u64` size, that many bytes; a zero
/// length ends the stream. All integers are little-endian. Logs stay where they are.
enum CutStream {
    /// Largest chunk, bytes.
    static let chunk = 256 << 10
    /// Longest name of an image, bytes.
    static let longestName = 255

    /// Whether a file belongs to the stream.
    static func isImage(_ name: String) -> Bool {
        name.hasSuffix(".img") && isPlain(name)
    }

    /// Letters, digits, `.`, `-` and `_`, beginning with a letter or digit: nothing that could lead out of the directory.
    static func isPlain(_ name: String) -> Bool {
        guard let first = name.utf8.first, name.utf8.count <= longestName, first != UInt8(ascii: ".") else { return false }
        return name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                true
            default:
                false
            }
        }
    }
}

/// Reads the images of a directory as a `CutStream`. They lie on a tmpfs: reading does not wait.
final class CutSource: ChunkSource {
    private struct State: Sendable {
        var names: [String]?
        var file: Descriptor?
        var left: UInt64 = 0
        var pending: [UInt8] = []
        var ended = false
    }

    private let directory: String
    private let state = Mutex(State())

    init(directory: String) {
        self.directory = directory
    }

    func next() async throws -> [UInt8]? {
        try state.withLock { state in
            while state.pending.count < CutStream.chunk, !state.ended { try fill(&state) }
            if state.pending.isEmpty { return nil }
            let chunk = Array(state.pending.prefix(CutStream.chunk))
            state.pending.removeFirst(chunk.count)
            return chunk
        }
    }

    private func fill(_ state: inout State) throws {
        if let file = state.file {
            var buffer = [UInt8](repeating: 0, count: Int(min(UInt64(CutStream.chunk), state.left)))
            let count = state.left == 0 ? 0 : try syscall("read", directory) { read(file.raw, &buffer, buffer.count) }
            if state.left > 0 && count == 0 { throw SyscallError("read", code: EIO, subject: directory) }
            state.pending += buffer[..<count]
            state.left -= UInt64(count)
            if state.left == 0 { state.file = nil }
            return
        }
        var names = state.names ?? Directories.entries(of: directory).filter(CutStream.isImage).sorted().reversed()
        defer { state.names = names }
        var header = ByteWriter()
        guard let name = names.popLast() else {
            header.integer(UInt16(0))
            state.pending += header.bytes
            state.ended = true
            return
        }
        let path = directory + "/" + name
        let file = try Descriptor(open: path, O_RDONLY | O_NOFOLLOW)
        var status = stat()
        try syscall("fstat", path) { fstat(file.raw, &status) }
        header.integer(UInt16(name.utf8.count))
        header.raw(Array(name.utf8))
        header.integer(UInt64(status.st_size))
        state.pending += header.bytes
        state.left = UInt64(status.st_size)
        state.file = file
    }
}

/// Writes a `CutStream` into a directory; refuses names that lead out of it.
final class CutSink: ChunkSink {
    private struct State: Sendable {
        var parser = CutParser()
        var file: Descriptor?
    }

    private let directory: String
    private let state = Mutex(State())

    /// Starts with an empty directory.
    init(directory: String) throws(SyscallError) {
        self.directory = directory
        try Directories.removeTree(directory)
        try Directories.make(directory)
    }

    func write(_ chunk: [UInt8]) async throws {
        try state.withLock { state in
            for event in try state.parser.take(chunk) {
                switch event {
                case .file(let name):
                    let path = directory + "/" + name
                    state.file = try Descriptor(open: path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW)
                case .bytes(let bytes):
                    guard let file = state.file else { throw Self.broken }
                    try FileContents.writeAll(bytes, to: file, path: directory)
                }
            }
        }
    }

    func finish() async throws {
        try state.withLock { state in
            state.file = nil
            guard state.parser.isComplete else { throw Self.broken }
        }
    }

    func abandon() async {
        state.withLock { $0.file = nil }
        try? Directories.removeTree(directory)
    }

    static let broken = IsolationError(
        .restoreFailed,
        cause: "the images of the cut did not arrive whole",
        remedy: "the sandbox goes on where it was; try the hand-off again"
    )
}

/// Splits a `CutStream` into files and their bytes.
struct CutParser: Sendable {
    enum Event: Equatable, Sendable {
        case file(String)
        case bytes([UInt8])
    }

    private var pending: [UInt8] = []
    private var left: UInt64 = 0
    /// Whether the end of the stream was seen.
    private(set) var isComplete = false

    /// Takes bytes as they come; throws for a name or an order that no source produces.
    mutating func take(_ chunk: [UInt8]) throws -> [Event] {
        var events: [Event] = []
        pending += chunk
        var offset = 0
        defer { pending.removeFirst(offset) }
        while offset < pending.count {
            if isComplete { throw CutSink.broken }
            if left > 0 {
                let count = Int(min(left, UInt64(pending.count - offset)))
                events.append(.bytes(Array(pending[offset..<(offset + count)])))
                left -= UInt64(count)
                offset += count
                continue
            }
            guard let length = integer(at: offset, UInt16.self) else { break }
            if length == 0 {
                isComplete = true
                offset += 2
                continue
            }
            let end = offset + 2 + Int(length)
            guard let size = integer(at: end, UInt64.self) else { break }
            let name = String(decoding: pending[(offset + 2)..<end], as: UTF8.self)
            guard CutStream.isImage(name) else { throw CutSink.broken }
            events.append(.file(name))
            left = size
            offset = end + 8
        }
        return events
    }

    private func integer<Value: FixedWidthInteger>(at offset: Int, _ type: Value.Type) -> Value? {
        Bytes.integer(pending, at: offset, type).map(Value.init(littleEndian:))
    }
}
