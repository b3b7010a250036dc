import LinuxSystem

/// Where a `criu swrk` is started: in advance, as starting costs about 10 ms.
package struct CriuContext: Sendable {
    /// The sandbox's network namespace: CRIU must see it as its own, or it would dump it.
    package var networkNamespace: Descriptor
    /// For a restore, the sandbox's cgroup2 directory, opened, and its path: tasks are born where swrk is.
    package var cgroup: Descriptor?
    /// Path of `cgroup`; restored tasks run only once it is frozen.
    package var gate: String?
    /// For a dump, the directory that says what memory to leave out (Sources/CCriuPreload/skip_carried.c).
    package var carry: String?
    /// For a restore, how many bytes swrk may keep for its tasks to inherit: they count in the target cgroups.
    package var inheritable: Int64 = 0
    /// For a restore, the sandbox's directories in cgroup v1 hierarchies.
    package var legacyCgroups: [String]
    /// For a restore: a cgroup namespace rooted at these cgroups, as CRIU restores none.
    package var newCgroupNamespace: Bool

    /// The context of a dump: swrk stays in a cgroup of helpers that outlive the daemon.
    package static func dump(
        networkNamespace: Descriptor,
        helpers: Descriptor?,
        carry: String? = nil
    ) -> CriuContext {
        CriuContext(
            networkNamespace: networkNamespace,
            cgroup: helpers,
            gate: nil,
            carry: carry,
            legacyCgroups: [],
            newCgroupNamespace: false
        )
    }

    /// The context of a restore: inside the target cgroups and a fresh cgroup namespace.
    package static func restore(
        networkNamespace: Descriptor,
        cgroup: Descriptor,
        cgroupPath: String,
        legacyCgroups: [String],
        inheritable: Int64 = 0
    ) -> CriuContext {
        CriuContext(
            networkNamespace: networkNamespace,
            cgroup: cgroup,
            gate: cgroupPath,
            inheritable: inheritable,
            legacyCgroups: legacyCgroups,
            newCgroupNamespace: true
        )
    }
}

/// A sandbox to dump.
package struct DumpRequest: Sendable {
    /// The user, for messages.
    package var user: String
    /// The sandbox's init on this host.
    package var pid: Int32
    /// Where the images go: an empty directory on a tmpfs.
    package var images: String
    /// Mounts inside whose source lies outside: those that hide parts of /proc.
    package var external: [ExternalMount] = []

    /// A request.
    package init(user: String, pid: Int32, images: String) {
        self.user = user
        self.pid = pid
        self.images = images
    }
}

/// A cut to restore.
package struct RestoreRequest: Sendable {
    /// The user, for messages.
    package var user: String
    /// The directory with CRIU's images.
    package var images: String
    /// The new root: a mount point (the overlay) in the daemon's mount namespace.
    package var root: String
    /// What to mount for the dump's external mounts, on this host.
    package var external: [ExternalMount] = []
    /// Whether memory comes from a page server that listens in the images directory.
    package var lazyPages = false

    /// A request.
    package init(user: String, images: String, root: String) {
        self.user = user
        self.images = images
        self.root = root
    }
}

/// When what happened in a dump.
package struct DumpReport: Sendable {
    package var requested: ContinuousClock.Instant
    /// All processes are stopped, nothing has been dumped.
    package var seized: ContinuousClock.Instant
    /// The images are complete, the processes still stopped by CRIU.
    package var dumped: ContinuousClock.Instant
    /// CRIU has gone; the processes are frozen by their cgroup.
    package var finished: ContinuousClock.Instant
    /// Size of the images, bytes.
    package var bytes: Int64
    /// Processes dumped.
    package var processes: Int
}

/// What a restore made.
package struct RestoreReport: Sendable {
    /// The sandbox's init on this host, a child of this process.
    package var pid: Int32
    package var requested: ContinuousClock.Instant
    /// All processes exist; the cgroup was frozen next.
    package var restored: ContinuousClock.Instant
    package var finished: ContinuousClock.Instant
}
