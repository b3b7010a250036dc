/// Where one host keeps things; every path of the product starts here.
package struct HostPaths: Codable, Sendable, Equatable {
    /// Images, SMIs, store and keys, kept over restarts; mode 0700.
    package var state: String
    /// Sockets and the cut in flight, a tmpfs; mode 0700.
    package var run: String
    /// `smi-init` and the CRIU preload library.
    package var libexec: String
    /// Private prefix of CRIU and its loader; the system's own CRIU is used where it is new enough.
    package var criuPrefix: String
    /// The part below every cgroup hierarchy that belongs to this host, such as `/smirun`.
    package var cgroupRoot: String

    /// Paths of a host; the defaults are those of an installed system.
    package init(
        state: String = "/var/lib/smirun",
        run: String = "/run/smirun",
        libexec: String = "/usr/local/libexec/smirun",
        criuPrefix: String = "/opt/smirun/criu",
        cgroupRoot: String = "/smirun"
    ) {
        self.state = state
        self.run = run
        self.libexec = libexec
        self.criuPrefix = criuPrefix
        self.cgroupRoot = cgroupRoot
    }

    /// Base images, `<digest>.erofs`.
    package var images: String { state + "/images" }

    /// One SMI's kept state: `spec.json`, `rootfs/{upper,work,merged}`, `state/<epoch>`.
    package func smi(_ user: String) -> String { state + "/smis/" + user }

    /// One SMI's volatile state: the process record and the cut in flight.
    package func runtime(_ user: String) -> String { run + "/smis/" + user }

    /// The directory, on a tmpfs, that holds CRIU's images of the cut in flight.
    package func cut(_ user: String) -> String { runtime(user) + "/cut" }

    /// What a dump in progress may leave out.
    package func carry(_ user: String) -> String { runtime(user) + "/carry" }

    /// Where CRIU looks for the page server of a restore.
    package func pageSocket(_ user: String) -> String { cut(user) + "/lazy-pages.socket" }

    /// Where the keeper of an SMI's userfaultfds listens.
    package func pageKeeper(_ user: String) -> String { run + "/keepers/" + user }

    /// Backing files of the processes' memory, of an SMI that runs here or of a replica.
    ///
    /// Beside `smi(_:)`, not in it: a replica is no sandbox.
    package func memory(_ user: String) -> String { state + "/memory/" + user }
}
