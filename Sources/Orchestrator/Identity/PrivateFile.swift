import Glibc
import LinuxSystem

/// Files that only root may read: keys, certificates, tokens.
enum PrivateFile {
    /// Writes a file of mode 0600 so that it is there whole or not at all, even after a loss of power.
    static func write(_ path: String, _ text: String) throws(SyscallError) {
        let temporary = path + ".new"
        let file = try Descriptor(open: temporary, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        // The file may be left over from an interrupted attempt, with whatever mode it had.
        try syscall("fchmod", temporary) { fchmod(file.raw, 0o600) }
        let bytes = Array(text.utf8)
        var written = 0
        while written < bytes.count {
            let rest = bytes[written...]
            written += try syscall("write", temporary) {
                rest.withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress, $0.count) }
            }
        }
        try syscall("fsync", temporary) { fsync(file.raw) }
        try syscall("rename", path) { rename(temporary, path) }
        let directory = try Descriptor(open: parent(of: path), O_RDONLY | O_DIRECTORY)
        try syscall("fsync", path) { fsync(directory.raw) }
    }

    /// Reads a file whole.
    static func read(_ path: String) throws(SyscallError) -> String {
        let file = try Descriptor(open: path, O_RDONLY)
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16384)
        while true {
            let count = try syscall("read", path) {
                buffer.withUnsafeMutableBytes { Glibc.read(file.raw, $0.baseAddress, $0.count) }
            }
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<count]
        }
    }

    /// Makes a directory of mode 0700, or corrects the mode of an existing one.
    static func makeDirectory(_ path: String) throws(SyscallError) {
        if mkdir(path, 0o700) != 0 {
            let code = errno
            guard code == EEXIST else { throw SyscallError("mkdir", code: code, subject: path) }
        }
        try syscall("chmod", path) { chmod(path, 0o700) }
    }

    /// Whether there is something at a path.
    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}
