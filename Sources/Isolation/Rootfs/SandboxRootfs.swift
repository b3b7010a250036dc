import CLinux
import Glibc
import LinuxSystem

/// A sandbox's root: a read-only base image below a writable layer of its own.
///
/// The writable layer is the sandbox's: whatever the host makes in it is made below it, through no symbolic link.
package struct SandboxRootfs: Sendable {
    /// `…/smis/<user>/rootfs`, which holds `base`, `upper`, `work` and `merged`.
    package let directory: String

    /// The rootfs of one user.
    package init(user: String, paths: HostPaths) {
        directory = paths.smi(user) + "/rootfs"
    }

    /// The writable layer.
    package var upper: String { directory + "/upper" }
    /// Where the host sees the rootfs while it restores a sandbox.
    package var merged: String { directory + "/merged" }

    /// Options of the overlay, relative to `directory`, as processes inside can read them.
    ///
    /// Without `index` and `nfs_export` inotify could not be dumped.
    package static let overlayOptions =
        "lowerdir=base,upperdir=upper,workdir=work,index=on,nfs_export=on,metacopy=off"

    /// Makes the directories and links the base image.
    package func prepare(base: String) throws {
        try Directories.make(directory)
        for name in ["upper", "work", "merged"] { try Directories.make(directory + "/" + name) }
        // The layer's own directory is the root directory of the sandbox.
        try syscall("chmod", upper) { chmod(upper, 0o755) }
        let link = directory + "/base"
        unlink(link)
        try syscall("symlink", link) { symlink(base, link) }
    }

    /// Removes the writable layer of an earlier stay.
    package func clear() throws {
        try unmount()
        for name in ["upper", "work"] { try Directories.removeTree(directory + "/" + name) }
    }

    /// Makes the devices, which no stream from another host carries, and what must be there to mount on.
    package func makeDevices() throws {
        let layer = try Layer(upper)
        try layer.makeDirectory("proc", mode: 0o555)
        try layer.makeDirectory("dev", mode: 0o755)
        try layer.makeDirectory("dev/pts", mode: 0o755)
        try layer.makeDirectory("dev/shm", mode: 0o1777, keep: true)
        for (name, major, minor) in Self.devices { try layer.makeDevice("dev", name, major, minor) }
        for (name, target) in Self.links { try layer.makeLink("dev", name, to: target) }
    }

    /// Writes the sandbox's own names, where it does not have them from an earlier life.
    package func writeNames(user: String, address: SandboxAddress, resolvers: [String]) throws {
        let layer = try Layer(upper)
        try layer.makeDirectory("etc", mode: 0o755, keep: true)
        // Where smi-init keeps the program's output.
        try layer.makeDirectory("var", mode: 0o755, keep: true)
        try layer.makeDirectory("var/log", mode: 0o755, keep: true)
        let hosts = """
            127.0.0.1 localhost
            ::1 localhost ip6-localhost ip6-loopback
            \(address.ipv4) \(user)
            \(address.ipv6) \(user)

            """
        let servers = resolvers.isEmpty ? "# no name server is configured for this cluster\n" : ""
        try layer.writeFile("etc/hosts", hosts)
        try layer.writeFile("etc/hostname", user + "\n")
        try layer.writeFile("etc/resolv.conf", servers + resolvers.map { "nameserver \($0)\n" }.joined())
    }

    /// Mounts the rootfs where the host sees it, for CRIU to restore into.
    package func mount() throws(SyscallError) {
        try Mounts.mountOverlay(in: directory, target: "merged", options: Self.overlayOptions)
    }

    /// Takes the host's view away; processes inside keep theirs.
    package func unmount() throws(SyscallError) {
        try Mounts.detachAll(merged)
    }

    private static let devices: [(String, UInt32, UInt32)] = [
        ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
    ]

    private static let links = [
        ("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ]
}

/// A writable layer, changed through no symbolic link and no other mount.
private struct Layer {
    private let root: Descriptor
    private let path: String

    init(_ path: String) throws(SyscallError) {
        self.path = path
        root = try Descriptor(open: path, O_RDONLY | O_DIRECTORY)
    }

    private func open(_ name: String, _ flags: Int32, mode: mode_t = 0) throws(SyscallError) -> Descriptor {
        Descriptor(owning: try syscall("openat2", path + "/" + name) { smi_open_below(root.raw, name, flags, mode) })
    }

    /// Makes a directory; anything else of that name, which a sandbox may have left, is removed first.
    ///
    /// `keep`: a directory that is there keeps its mode.
    func makeDirectory(_ name: String, mode: mode_t, keep: Bool = false) throws(SyscallError) {
        if mkdirat(root.raw, name, 0o700) != 0 {
            let code = errno
            guard code == EEXIST else { throw SyscallError("mkdir", code: code, subject: path + "/" + name) }
            if let there = try? open(name, O_RDONLY | O_DIRECTORY) {
                if !keep { try syscall("fchmod", path + "/" + name) { fchmod(there.raw, mode) } }
                return
            }
            try syscall("unlink", path + "/" + name) { unlinkat(root.raw, name, 0) }
            try syscall("mkdir", path + "/" + name) { mkdirat(root.raw, name, 0o700) }
        }
        let made = try open(name, O_RDONLY | O_DIRECTORY)
        try syscall("fchmod", path + "/" + name) { fchmod(made.raw, mode) }
    }

    func makeDevice(_ directory: String, _ name: String, _ major: UInt32, _ minor: UInt32) throws(SyscallError) {
        let parent = try open(directory, O_RDONLY | O_DIRECTORY)
        let subject = path + "/" + directory + "/" + name
        var status = stat()
        if fstatat(parent.raw, name, &status, AT_SYMLINK_NOFOLLOW) == 0 {
            let device = dev_t(major) << 8 | dev_t(minor)
            if status.st_mode & S_IFMT == S_IFCHR && status.st_rdev == device { return }
            if status.st_mode & S_IFMT == S_IFDIR {
                try Directories.removeTree("/proc/self/fd/\(parent.raw)/\(name)")
            } else {
                try syscall("unlink", subject) { unlinkat(parent.raw, name, 0) }
            }
        }
        try syscall("mknod", subject) { smi_make_device(parent.raw, name, 0o666, major, minor) }
        // mknod's mode passed the daemon's umask; the name was just made by us, and nothing runs in the sandbox yet.
        try syscall("fchmodat", subject) { fchmodat(parent.raw, name, 0o666, 0) }
    }

    func makeLink(_ directory: String, _ name: String, to target: String) throws(SyscallError) {
        let parent = try open(directory, O_RDONLY | O_DIRECTORY)
        if symlinkat(target, parent.raw, name) == 0 { return }
        let code = errno
        if code != EEXIST { throw SyscallError("symlink", code: code, subject: path + "/" + directory + "/" + name) }
    }

    /// Writes a file that is not there.
    func writeFile(_ name: String, _ text: String) throws(SyscallError) {
        let file: Descriptor
        do {
            file = try open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644)
        } catch {
            if error.code == EEXIST { return }
            throw error
        }
        try syscall("fchmod", path + "/" + name) { fchmod(file.raw, 0o644) }
        try FileContents.writeAll(Array(text.utf8), to: file, path: path + "/" + name)
    }
}
