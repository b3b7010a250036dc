import Glibc
import LinuxSystem
import Synchronization

/// Sandboxes of one host: makes, finds again, freezes, moves and removes them.
///
/// Calls on one user are carried out one after the other, those on different users side by side; the work blocks threads
/// of its own. What outlives the daemon (processes, cgroups, links, packet filter, files) is the truth, the memory of this
/// object only a cache of it.
package final class SandboxHost: SandboxHosting {
    /// What can be configured of a host's sandboxes.
    package struct Configuration: Sendable {
        /// The IPv4 network of all SMIs of the cluster.
        package var network4 = "10.88.0.0/16"
        /// The IPv6 network of all SMIs of the cluster.
        package var network6 = "fd53:4d49::/64"
        /// Name servers written into a new sandbox's /etc/resolv.conf.
        package var resolvers: [String] = []

        /// The defaults.
        package init() {}
    }

    /// What is open for one sandbox.
    struct Open: Sendable {
        /// Its init.
        var process: ProcessHandle?
        /// The same as a child, where this daemon started it and must reap it.
        var child: ChildProcess?
        /// A `criu swrk` started in advance, for the next dump or the awaited restore.
        var criu: CriuService?
        /// The network of a sandbox that will be restored here.
        var namespace: NetworkNamespace?
        /// What a cut needs to know of mappings has been copied for the hand-off that is under way.
        var isCutPrepared = false
    }

    let paths: HostPaths
    let configuration: Configuration
    let network: SandboxNetwork
    let images: MountedImages
    let masks: MaskSources
    let hierarchies: [CgroupHierarchy]
    let locks = UserLocks()
    let open = Mutex<[String: Open]>([:])
    let devices = Mutex<DevicePolicy?>(nil)
    let installation = Mutex<CriuInstallation?>(nil)
    /// Held while base images are mounted or unmounted.
    let imageLock = Mutex<Void>(())

    /// The sandboxes of a host; `prepare` comes first.
    package init(paths: HostPaths, configuration: Configuration = Configuration()) {
        self.paths = paths
        self.configuration = configuration
        network = SandboxNetwork(
            filter: PacketFilter(network4: configuration.network4, network6: configuration.network6)
        )
        images = MountedImages(paths: paths)
        masks = MaskSources(paths: paths)
        hierarchies = CgroupHierarchy.mounted()
    }

    func cgroup(_ user: String) throws(IsolationError) -> SandboxCgroup {
        try SandboxCgroup(user: user, root: paths.cgroupRoot, hierarchies: hierarchies)
    }

    func record(_ user: String) -> SandboxRecord { SandboxRecord(user: user, paths: paths) }

    func rootfs(_ user: String) -> SandboxRootfs { SandboxRootfs(user: user, paths: paths) }

    func devicePolicy() throws -> DevicePolicy {
        try devices.withLock { loaded in
            if let loaded { return loaded }
            let policy = try DevicePolicy()
            loaded = policy
            return policy
        }
    }

    /// The specification of a sandbox that this host has.
    func knownSpec(_ user: String) throws(IsolationError) -> SandboxSpec {
        if let spec = record(user).spec() { return spec }
        throw IsolationError(
            .sandboxUnknown,
            cause: "this host has no sandbox of \(user)",
            remedy: "`smirun ls` lists the SMIs"
        )
    }
}

extension SandboxHost {
    /// Makes the host ready, once per start of the daemon; running sandboxes and their blocked links stay as they are.
    package func prepare() async throws {
        try await offload { [self] in
            try IsolationError.wrapping("prepare this host") {
                try prepareDirectories()
                try SandboxCgroup.prepareParent(root: paths.cgroupRoot, hierarchies: hierarchies)
                try CgroupTree(paths.cgroupRoot + "/aux", in: hierarchies.filter(\.isUnified)).create()
                CgroupMoves.makeFast(hierarchies)
                try network.filter.prepare()
                for (name, value) in Self.hostParameters { try FileContents.write(value, to: "/proc/sys/" + name) }
                _ = try devicePolicy()
                _ = try SeccompFilter.sandbox.get()
                examineKernel()
            }
        }
    }

    private func prepareDirectories() throws {
        for path in [paths.state, paths.run, paths.images, paths.state + "/smis", paths.run + "/smis"] {
            try Directories.make(path)
        }
        for path in [paths.state, paths.run] { try syscall("chmod", path) { chmod(path, 0o700) } }
        try masks.prepare()
    }

    /// Packets to and from sandboxes are routed, not bridged.
    private static let hostParameters = [
        ("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/default/forwarding", "1"),
    ]
}

extension IsolationError {
    /// Runs a step and turns whatever a system call threw into an error with cause and remedy.
    static func wrapping<Value>(_ purpose: String, _ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch let error as SyscallError {
            throw IsolationError(error, purpose: purpose)
        }
    }

    /// A failed system call, in the words of an operator.
    init(_ error: SyscallError, purpose: String) {
        switch error.code {
        case ENOSPC, EDQUOT:
            self.init(
                .diskFull,
                cause: "cannot \(purpose): the disk is full (\(error))",
                remedy: "free space below the state directory, or remove SMIs and images that are not needed"
            )
        case EPERM where geteuid() != 0, EACCES where geteuid() != 0:
            self.init(.hostUnsuitable, cause: "cannot \(purpose): \(error)", remedy: "run the daemon as root")
        default:
            self.init(
                .systemCall,
                cause: "cannot \(purpose): \(error)",
                remedy: "`smirun doctor` says what this host lacks; the daemon's log has more"
            )
        }
    }
}
