import Glibc

/// Whole files, small ones: /proc, cgroup and sysctl entries, records.
package enum FileContents {
    /// Reads a file to its end.
    package static func bytes(of path: String) throws(SyscallError) -> [UInt8] {
        let file = try Descriptor(open: path, O_RDONLY)
        return try bytes(of: file, path: path)
    }

    /// Reads an open file from where it stands to its end.
    package static func bytes(of file: Descriptor, path: String? = nil) throws(SyscallError) -> [UInt8] {
        var contents: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while true {
            let count = try syscall("read", path) { read(file.raw, &chunk, chunk.count) }
            if count == 0 { return contents }
            contents.append(contentsOf: chunk[..<count])
        }
    }

    /// Reads a text file; bytes that are not UTF-8 are replaced.
    package static func string(of path: String) throws(SyscallError) -> String {
        String(decoding: try bytes(of: path), as: UTF8.self)
    }

    /// Writes one value to an existing file in one call, as /proc and cgroup files want it.
    package static func write(_ value: String, to path: String) throws(SyscallError) {
        let file = try Descriptor(open: path, O_WRONLY)
        let bytes = Array(value.utf8)
        try syscall("write", path) { Glibc.write(file.raw, bytes, bytes.count) }
    }

    /// Replaces a file's contents so that a reader sees the old or the new ones: written beside it and renamed.
    ///
    /// `durable`: it also survives a loss of power, which costs milliseconds on a disk.
    package static func replace(
        _ path: String,
        with bytes: [UInt8],
        mode: mode_t = 0o600,
        durable: Bool = false
    ) throws(SyscallError) {
        let temporary = path + ".new"
        let file = try Descriptor(open: temporary, O_WRONLY | O_CREAT | O_TRUNC, mode: mode)
        try writeAll(bytes, to: file, path: temporary)
        if durable { try syscall("fsync", temporary) { fsync(file.raw) } }
        try syscall("rename", path) { rename(temporary, path) }
    }

    /// Writes all bytes to an open file.
    package static func writeAll(
        _ bytes: [UInt8],
        to file: Descriptor,
        path: String? = nil
    ) throws(SyscallError) {
        var offset = 0
        while offset < bytes.count {
            let count = try syscall("write", path) {
                bytes.withUnsafeBytes {
                    Glibc.write(file.raw, $0.baseAddress.map { $0 + offset }, bytes.count - offset)
                }
            }
            offset += count
        }
    }
}
