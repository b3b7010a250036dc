import Glibc
import LinuxSystem

/// Brings a recipe's tree into the form that every sandbox expects and that two builds share.
struct ImageNormalizer {
    let root: String
    let initProgram: String

    /// Directories that a sandbox mounts on or writes to.
    private static let directories: [(String, mode_t)] = [
        ("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("run", 0o755), ("tmp", 0o1777), ("etc", 0o755),
        ("root", 0o700),
        ("var", 0o755), ("var/log", 0o755), ("var/tmp", 0o1777),
    ]

    /// What package managers leave behind and what differs from run to run: removed with all that is below.
    private static let emptied = ["var/lib/apt/lists", "tmp", "var/tmp", "run"]
    /// As above, but directories stay: services expect their own below /var/log.
    private static let emptiedOfFiles = ["var/cache", "var/log"]
    private static let removed = [
        "etc/.pwd.lock", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id", "var/lib/dbus/machine-id",
        "var/lib/systemd/random-seed", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend", "var/lib/apt/extended_states",
        "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
        "var/lib/dpkg/status-old", "var/lib/dpkg/diversions-old", "var/lib/dpkg/statoverride-old",
    ]

    /// Everything, in order.
    func run() throws {
        for name in Self.emptied { try empty(name) }
        for name in Self.emptiedOfFiles { try removeFiles(root + "/" + name) }
        for name in Self.removed { try Directories.removeTree(root + "/" + name) }
        for (name, mode) in Self.directories {
            try Directories.make(root + "/" + name, mode: mode)
            try syscall("chmod", name) { chmod(root + "/" + name, mode) }
        }
        try installInit()
        try separateHardLinks(root)
        try syscall("chmod", root) { chmod(root, 0o755) }
    }

    private func empty(_ name: String) throws {
        var status = stat()
        // A link such as /var/run -> /run stays what it is.
        guard lstat(root + "/" + name, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return }
        try Directories.empty(root + "/" + name)
    }

    private func removeFiles(_ directory: String) throws {
        for name in Directories.entries(of: directory) {
            let path = directory + "/" + name
            var status = stat()
            try syscall("lstat", path) { lstat(path, &status) }
            if status.st_mode & S_IFMT == S_IFDIR {
                try removeFiles(path)
            } else {
                try syscall("unlink", path) { unlink(path) }
            }
        }
    }

    /// smi-init is a file of the image, never the host's binary: a sandbox cannot reach the latter through /proc/1/exe.
    private func installInit() throws {
        var status = stat()
        let merged = lstat(root + "/sbin", &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
        let directory = root + (merged ? "/usr/sbin" : "/sbin")
        try Directories.make(directory, mode: 0o755)
        let target = directory + "/smi-init"
        try Directories.removeTree(target)
        do {
            try ImageFile.copy(initProgram, to: target)
        } catch let error as IsolationError where error.code == .imageMissing {
            throw IsolationError(
                .hostUnsuitable,
                cause: "smi-init is missing: \(initProgram)",
                remedy: "run 'make build', or set SMIRUN_LIBEXEC to the directory that holds it"
            )
        }
        try syscall("chmod", target) { chmod(target, 0o755) }
    }

    /// Gives every name of a file with several names a copy of its own (see `ImageTree.validate`).
    private func separateHardLinks(_ directory: String) throws {
        for name in Directories.entries(of: directory).sorted() {
            let path = directory + "/" + name
            var status = stat()
            try syscall("lstat", path) { lstat(path, &status) }
            if status.st_mode & S_IFMT == S_IFDIR { try separateHardLinks(path) }
            guard status.st_mode & S_IFMT == S_IFREG, status.st_nlink > 1 else { continue }
            let copy = path + ".smirun-copy"
            try ImageFile.copy(path, to: copy)
            try syscall("chown", copy) { chown(copy, status.st_uid, status.st_gid) }
            try syscall("chmod", copy) { chmod(copy, status.st_mode & 0o7777) }
            try syscall("rename", path) { rename(copy, path) }
        }
    }
}
