import Glibc
import LinuxSystem

/// What of /proc a sandbox's root must not reach.
///
/// Root without CAP_SYS_ADMIN can still write to /proc/sys (core_pattern is root on the host), to PCI configuration
/// space and to sysrq, and can read the kernel's addresses and keys.
///
/// Every entry is a mount, so that it is there for processes of any user, and again after a hand-off.
package struct ProcMasks: Sendable, Equatable {
    /// Files over which an empty file is mounted, read-only.
    package var files: [String]
    /// Directories over which an empty directory is mounted, read-only.
    package var directories: [String]
    /// Files and directories mounted over themselves, read-only.
    package var readOnly: [String]

    /// All paths of interest; the ones that a kernel does not have are skipped.
    package static let all = ProcMasks(
        files: [
            "/proc/interrupts", "/proc/iomem", "/proc/ioports", "/proc/kallsyms", "/proc/kcore", "/proc/keys",
            "/proc/key-users", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags",
            "/proc/latency_stats", "/proc/mtrr", "/proc/pagetypeinfo", "/proc/sched_debug", "/proc/slabinfo",
            "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
        ],
        directories: [
            "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/driver", "/proc/dynamic_debug", "/proc/pressure",
            "/proc/scsi",
        ],
        readOnly: ["/proc/fs", "/proc/irq", "/proc/sys"]
    )

    /// Those that this kernel has.
    package var present: ProcMasks {
        ProcMasks(
            files: files.filter(Directories.exists),
            directories: directories.filter(Directories.exists),
            readOnly: readOnly.filter(Directories.exists)
        )
    }
}

/// The empty file and directory that are mounted over masked paths.
///
/// They lie on a read-only tmpfs of the host's, so that nothing a sandbox does to its files can undo a mask or keep it
/// from moving, and no copy of the mount is writable.
package struct MaskSources: Sendable {
    private let mountPoint: String
    /// The empty file.
    package var file: String { mountPoint + "/file" }
    /// The empty directory.
    package var directory: String { mountPoint + "/directory" }

    /// Their places on a host.
    package init(paths: HostPaths) {
        mountPoint = paths.run + "/mask"
    }

    /// Makes them where missing.
    package func prepare() throws(SyscallError) {
        if Mounts.isMountPoint(mountPoint) { return }
        try Directories.make(mountPoint)
        let options = "size=4k,nr_inodes=8,mode=0555"
        try Mounts.mount("tmpfs", on: mountPoint, type: "tmpfs", options: options)
        try Directories.make(directory, mode: 0o555)
        _ = try Descriptor(open: file, O_WRONLY | O_CREAT, mode: 0o444)
        let flags = UInt(MS_REMOUNT) | UInt(MS_RDONLY) | UInt(MS_NOSUID) | UInt(MS_NODEV) | UInt(MS_NOEXEC)
        try Mounts.mount("tmpfs", on: mountPoint, type: "tmpfs", flags: flags, options: options)
    }

    /// CRIU's external mounts: mount point inside, name in the images, path on the host.
    package func externalMounts(of masks: ProcMasks) -> [ExternalMount] {
        masks.files.map { ExternalMount(mountPoint: $0, name: "mask-file", source: file) }
            + masks.directories.map { ExternalMount(mountPoint: $0, name: "mask-directory", source: directory) }
    }
}

/// A mount whose source lies outside of the sandbox, for CRIU's `external` option.
package struct ExternalMount: Sendable, Equatable {
    /// Where it is inside.
    package let mountPoint: String
    /// Its name in the images.
    package let name: String
    /// What is mounted there, on the host that restores.
    package let source: String
}
