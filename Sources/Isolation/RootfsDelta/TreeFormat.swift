/// The form in which a directory tree travels: a rootfs's writable layer, or CRIU's images.
///
/// A stream is the magic, records, and an end record with a checksum over all bytes before it. Every record is a type
/// byte, a `u32` length and that many bytes; integers are little-endian. An entry record describes one file system object;
/// data records that follow it belong to it. Entries come depth first, a directory before what is in it. The stream may be
/// cut into chunks anywhere.
enum TreeFormat {
    static let magic = Array("SMITREE1".utf8)
    /// Chunks are at most this long; also the most that one data record carries.
    static let chunk = 256 << 10
    static let dataPayload = 128 << 10
    /// Longest record that is read: an entry with many large attributes.
    static let longestRecord = 1 << 20
    static let header = 5

    enum Record: UInt8 {
        case entry = 1
        case data = 2
        case end = 3
    }

    enum Kind: UInt8 {
        case directory = 1
        case file = 2
        case symlink = 3
        /// Another name of a file that came before; `target` is that file's path.
        case hardLink = 4
        case fifo = 5
        case socket = 6
        /// The overlay's mark that a name of the base image is gone.
        case whiteout = 7
        /// A directory that hides the base image's directory of the same name.
        case opaqueDirectory = 8

        var isDirectory: Bool { self == .directory || self == .opaqueDirectory }
    }

    /// Longest path, as for the kernel's PATH_MAX.
    static let longestPath = 4095
}

/// One file system object in a stream.
struct TreeEntry: Equatable {
    var kind: TreeFormat.Kind
    /// Relative to the tree's root, without a leading slash; empty for the root itself.
    var path: [UInt8]
    /// Permission bits.
    var mode: UInt32
    var uid: UInt32
    var gid: UInt32
    var modifiedSeconds: Int64
    var modifiedNanoseconds: UInt32
    /// Length of a file, bytes.
    var size: UInt64
    /// What a symbolic link holds, or the path a hard link names.
    var target: [UInt8]
    var attributes: [Attribute]

    struct Attribute: Equatable {
        var name: [UInt8]
        var value: [UInt8]
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(kind.rawValue)
        writer.integer(mode)
        writer.integer(uid)
        writer.integer(gid)
        writer.integer(modifiedSeconds)
        writer.integer(modifiedNanoseconds)
        writer.integer(size)
        writer.field(path)
        writer.field(target)
        writer.integer(UInt32(attributes.count))
        for attribute in attributes {
            writer.field(attribute.name)
            writer.field(attribute.value)
        }
        return writer.bytes
    }

    /// Decodes an entry record's payload; nil unless it is exactly one entry.
    static func decoded(_ bytes: [UInt8]) -> TreeEntry? {
        var reader = ByteReader(bytes)
        guard let kindByte = reader.integer(UInt8.self), let kind = TreeFormat.Kind(rawValue: kindByte),
            let mode = reader.integer(UInt32.self), let uid = reader.integer(UInt32.self),
            let gid = reader.integer(UInt32.self), let seconds = reader.integer(Int64.self),
            let nanoseconds = reader.integer(UInt32.self), nanoseconds < 1_000_000_000,
            let size = reader.integer(UInt64.self), size <= UInt64(Int64.max),
            let path = reader.field(), let target = reader.field(), let count = reader.integer(UInt32.self)
        else { return nil }
        var attributes: [Attribute] = []
        for _ in 0..<count {
            guard let name = reader.field(), let value = reader.field() else { return nil }
            attributes.append(Attribute(name: name, value: value))
        }
        guard reader.remaining == 0 else { return nil }
        return TreeEntry(
            kind: kind,
            path: path,
            mode: mode & 0o7777,
            uid: uid,
            gid: gid,
            modifiedSeconds: seconds,
            modifiedNanoseconds: nanoseconds,
            size: size,
            target: target,
            attributes: attributes
        )
    }
}

extension ByteWriter {
    /// Appends bytes after their `u32` count.
    fileprivate mutating func field(_ value: [UInt8]) {
        integer(UInt32(value.count))
        raw(value)
    }
}

extension ByteReader {
    /// The next bytes after their `u32` count.
    fileprivate mutating func field() -> [UInt8]? {
        integer(UInt32.self).flatMap { raw(Int($0)) }
    }
}
