import CLinux
import Glibc

/// mount(2) and its relatives.
package enum Mounts {
    /// Mounts a file system.
    package static func mount(
        _ source: String,
        on target: String,
        type: String,
        flags: UInt = 0,
        options: String? = nil
    ) throws(SyscallError) {
        try syscall("mount", target) { Glibc.mount(source, target, type, flags, options) }
    }

    /// Mounts an overlay; `target` and the paths in `options` are relative to `directory`, so that the mount shows no path
    /// of the host to who sees it from inside.
    package static func mountOverlay(
        in directory: String,
        target: String,
        options: String
    ) throws(SyscallError) {
        let code = smi_mount_overlay(directory, target, options)
        guard code == 0 else { throw SyscallError("mount", code: code, subject: directory + "/" + target) }
    }

    /// Changes a mounted file system's own options; `flags` are all that it shall have.
    package static func reconfigure(_ path: String, flags: [String]) throws(SyscallError) {
        let strings = CStringArray(flags)
        try syscall("fsconfig", path) { smi_reconfigure(path, strings.constant, flags.count) }
    }

    /// Takes away every mount on a path; none there, or no such path, is no error.
    package static func detachAll(_ path: String) throws(SyscallError) {
        while true {
            // MNT_DETACH | UMOUNT_NOFOLLOW
            if umount2(path, 2 | 8) == 0 { continue }
            let code = errno
            if code == EINVAL || code == ENOENT { return }
            throw SyscallError("umount2", code: code, subject: path)
        }
    }

    /// Whether something is mounted exactly on a path.
    package static func isMountPoint(_ path: String) -> Bool { type(of: path) != nil }

    /// The type of the file system mounted exactly on a path, the topmost where there are several; nil where none is.
    package static func type(of path: String) -> String? {
        guard let text = try? FileContents.string(of: "/proc/self/mountinfo") else { return nil }
        let escaped = path.replacing(" ", with: "\\040")
        let types = text.split(separator: "\n").compactMap { line -> String? in
            let fields = line.split(separator: " ")
            guard fields.count > 4, fields[4] == escaped, let dash = fields.firstIndex(of: "-") else { return nil }
            return dash + 1 < fields.count ? String(fields[dash + 1]) : nil
        }
        return types.last
    }
}
