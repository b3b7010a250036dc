import CLinux
import Glibc

/// Directories and trees.
package enum Directories {
    /// Makes a directory and those above it, where missing.
    ///
    /// `mode` applies to the last.
    package static func make(_ path: String, mode: mode_t = 0o700) throws(SyscallError) {
        if mkdir(path, mode) == 0 { return }
        let code = errno
        if code == EEXIST { return }
        guard code == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
            throw SyscallError("mkdir", code: code, subject: path)
        }
        try make(String(path[..<slash]), mode: mode)
        if mkdir(path, mode) != 0 {
            let code = errno
            if code != EEXIST { throw SyscallError("mkdir", code: code, subject: path) }
        }
    }

    /// Names in a directory, without `.` and `..`; empty where there is none.
    package static func entries(of path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { Bytes.string(Array($0)) }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// Whether there is anything, also a dangling link, at a path.
    package static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// Removes a tree without following links or leaving the file system; nothing there is no error.
    package static func removeTree(_ path: String) throws(SyscallError) {
        let (parent, name) = split(path)
        guard let directory = try? Descriptor(open: parent, O_RDONLY | O_DIRECTORY) else { return }
        try remove(Array(name.utf8), in: directory, path: path)
    }

    private static func split(_ path: String) -> (parent: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        return (slash == path.startIndex ? "/" : String(path[..<slash]), String(path[path.index(after: slash)...]))
    }

    /// Names as bytes: a sandbox may call its files what it likes.
    private static func remove(_ name: [UInt8], in parent: Descriptor, path: String) throws(SyscallError) {
        let entry = name.map { CChar(bitPattern: $0) } + [0]
        if unlinkat(parent.raw, entry, 0) == 0 { return }
        let code = errno
        if code == ENOENT { return }
        guard code == EISDIR || code == EPERM else { throw SyscallError("unlink", code: code, subject: path) }
        let raw = smi_open_below(parent.raw, entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
        guard raw >= 0 else { throw SyscallError("open", code: errno, subject: path) }
        let directory = Descriptor(owning: raw)
        for name in names(in: directory) {
            try remove(name, in: directory, path: path + "/" + String(decoding: name, as: UTF8.self))
        }
        try syscall("rmdir", path) { unlinkat(parent.raw, entry, AT_REMOVEDIR) }
    }

    /// Names in an open directory as bytes, which need not be UTF-8, without `.` and `..`; in no order.
    package static func names(in directory: Descriptor) -> [[UInt8]] {
        let raw = openat(directory.raw, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0, let handle = fdopendir(raw) else { return [] }
        defer { closedir(handle) }
        var names: [[UInt8]] = []
        while let entry = readdir(handle) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != [UInt8(ascii: ".")] && name != [UInt8(ascii: "."), UInt8(ascii: ".")] { names.append(name) }
        }
        return names
    }
}
