import LinuxSystem

/// Makes the namespaces of hosts and of the fabric between them.
///
/// Each set lives by one sleeping process, its holder: nothing is bound to a name or mounted in the machine's own
/// namespaces, and all is gone when the holder is.
struct LabNamespaces {
    let layout: LabLayout

    /// Runs inside a new host's namespaces and stays as its holder.
    ///
    /// Private mounts: a tmpfs on /run (CRIU keeps its findings about the kernel only on one), the host's own state and
    /// configuration, and the images that all hosts share.
    private static let hostScript = """
        set -e
        mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
        mkdir -p -m 700 "$RUN"
        mkdir -p -m 1777 /run/lock
        mount --bind "$HOST_CONFIGURATION" "$CONFIGURATION"
        mount --bind "$IMAGES" "$HOST_STATE/images"
        # Last, as this hides the lab itself.
        mount --rbind "$HOST_STATE" "$STATE"
        echo "$NAME" > /proc/sys/kernel/hostname
        echo ready
        exec sleep infinity < /dev/null > /dev/null 2>&1
        """

    private static let fabricScript = "echo ready; exec sleep infinity < /dev/null > /dev/null 2>&1"

    /// A holder that is being started.
    struct Start {
        let subject: String
        let child: ChildProcess
        let output: Descriptor
        let error: Descriptor
    }

    /// Begins to make a host's namespaces: network, mount, UTS, and time with a clock of its own.
    func begin(_ host: LabHost) throws(LabError) -> Start {
        let files = layout.files(of: host.name)
        for directory in [files.state + "/images", files.configuration] {
            try makeDirectories(directory)
        }
        var command = HelperCommand([
            "unshare", "--net", "--mount", "--propagation", "private", "--uts", "--time",
            "--monotonic", "\(host.clockOffset)", "--boottime", "\(host.clockOffset)",
            "--", "sh", "-c", Self.hostScript,
        ])
        command.environment += [
            "NAME=\(host.name)", "RUN=\(layout.run)", "STATE=\(layout.state)",
            "IMAGES=\(layout.images)", "CONFIGURATION=\(layout.configuration)", "HOST_STATE=\(files.state)",
            "HOST_CONFIGURATION=\(files.configuration)",
        ]
        return try begin(command, "host \(host.name)", cgroup: layout.cgroup(of: host.name) + "/holder")
    }

    /// Begins to make the fabric's network namespace.
    func beginFabric() throws(LabError) -> Start {
        let command = HelperCommand(["unshare", "--net", "--", "sh", "-c", Self.fabricScript])
        return try begin(command, "the fabric", cgroup: layout.cgroup + "/fabric")
    }

    private func begin(_ command: HelperCommand, _ subject: String, cgroup: String) throws(LabError) -> Start {
        let tree = CgroupTree(cgroup)
        return try during("making the namespaces of \(subject)") { () throws(SyscallError) in
            try tree.create()
            var command = command
            command.directory = "/"
            command.cgroup = tree
            command.newSession = true
            let output = try DescriptorPair.pipe()
            let error = try DescriptorPair.pipe()
            let child = try command.start([1: output.write, 2: error.write])
            return Start(subject: subject, child: child, output: output.read, error: error.read)
        }
    }

    /// Waits until the namespaces are complete.
    func finish(_ start: Start) throws(LabError) -> ProcessIdentity {
        let answer = start.output.readUntil("\n", before: .now + .seconds(10))
        if answer.trimmed == "ready", let holder = ProcessIdentity(pid: start.child.pid) { return holder }
        let reason = start.error.readUntil(nil, before: .now + .seconds(1)).trimmed
        throw LabError(
            .hostUnsuitable,
            cause: "the namespaces of \(start.subject) cannot be made" + (reason.isEmpty ? "" : ": \(reason)"),
            remedy: "the kernel must have network, mount, UTS and time namespaces; `smirun doctor` shows what it has"
        )
    }
}
