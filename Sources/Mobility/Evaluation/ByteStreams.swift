#if canImport(Glibc)
import Glibc
private let systemRead = Glibc.read
private let systemWrite = Glibc.write
#elseif canImport(Musl)
import Musl
private let systemRead = Musl.read
private let systemWrite = Musl.write
#endif

/// Where bytes come from: a descriptor, or an array in tests.
public protocol ByteSource {
    /// Appends what there is, waiting for at least one byte; false at the end.
    mutating func read(into buffer: inout [UInt8]) throws(MobilityError) -> Bool
}

/// Where bytes go.
public protocol ByteSink {
    /// Writes all of them.
    mutating func write(_ bytes: [UInt8]) throws(MobilityError)
}

/// Reads a descriptor that somebody else owns, with read(2) into one large buffer.
public struct DescriptorSource: ByteSource {
    private let descriptor: Int32
    private var chunk: [UInt8]

    /// Reads `descriptor`, which the caller keeps open.
    public init(descriptor: Int32, chunk: Int = 1 << 17) {
        self.descriptor = descriptor
        self.chunk = Array(repeating: 0, count: chunk)
    }

    /// Appends what one read(2) returns.
    public mutating func read(into buffer: inout [UInt8]) throws(MobilityError) -> Bool {
        while true {
            // SAFETY: the pointer is used within the closure only, and the count is the buffer's.
            let (count, code) = chunk.withUnsafeMutableBytes { bytes in
                let count = systemRead(descriptor, bytes.baseAddress, bytes.count)
                return (count, errno)
            }
            if count > 0 {
                buffer.append(contentsOf: chunk[0..<count])
                return true
            }
            if count == 0 { return false }
            guard code == EINTR else {
                throw MobilityError(
                    .file,
                    cause: "read: \(String(cString: strerror(code)))",
                    remedy: "give it a readable file or pipe"
                )
            }
        }
    }
}

/// Writes a descriptor that somebody else owns.
public struct DescriptorSink: ByteSink {
    private let descriptor: Int32

    /// Writes to `descriptor`, which the caller keeps open.
    public init(descriptor: Int32) { self.descriptor = descriptor }

    /// Writes all bytes, in as many write(2) calls as it takes.
    public mutating func write(_ bytes: [UInt8]) throws(MobilityError) {
        var done = 0
        while done < bytes.count {
            // SAFETY: the pointer is used within the closure only, within the buffer's bounds.
            let (count, code) = bytes.withUnsafeBytes { buffer in
                let rest = UnsafeRawBufferPointer(rebasing: buffer[done...])
                let count = systemWrite(descriptor, rest.baseAddress, rest.count)
                return (count, errno)
            }
            if count > 0 {
                done += count
            } else if count < 0, code != EINTR {
                throw MobilityError(
                    .file,
                    cause: "write: \(String(cString: strerror(code)))",
                    remedy: "check that the reader of the output is still there and that the disk has space"
                )
            }
        }
    }
}

/// Bytes of an array, handed out in pieces.
public struct ArraySource: ByteSource {
    private var pieces: [[UInt8]]

    /// Hands out the pieces one by one.
    public init(_ pieces: [[UInt8]]) { self.pieces = pieces.reversed() }

    /// Hands out the next piece.
    public mutating func read(into buffer: inout [UInt8]) throws(MobilityError) -> Bool {
        guard let piece = pieces.popLast() else { return false }
        buffer += piece
        return true
    }
}

/// A whole file.
enum WholeFile {
    static func read(_ path: String) throws(MobilityError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw MobilityError(
                .file,
                cause: "\(path): \(String(cString: strerror(errno)))",
                remedy: "give the path of a file that can be read"
            )
        }
        defer { close(descriptor) }
        var source = DescriptorSource(descriptor: descriptor)
        var bytes: [UInt8] = []
        while try source.read(into: &bytes) {}
        return bytes
    }

    static func write(_ bytes: [UInt8], to path: String) throws(MobilityError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw MobilityError(
                .file,
                cause: "\(path): \(String(cString: strerror(errno)))",
                remedy: "give a path that can be written"
            )
        }
        defer { close(descriptor) }
        var sink = DescriptorSink(descriptor: descriptor)
        try sink.write(bytes)
    }
}
