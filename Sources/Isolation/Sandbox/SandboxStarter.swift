import CLinux
import Glibc
import LinuxSystem

/// Starts a sandbox's init: everything is laid out before the clone, the steps themselves are C (CLinux/sandbox.c).
struct SandboxStarter {
    let spec: SandboxSpec
    let rootfs: SandboxRootfs
    let cgroup: SandboxCgroup
    let namespace: NetworkNamespace
    let masks: MaskSources

    /// smi-init's path inside.
    static let program = "/sbin/smi-init"

    /// Limits of every sandbox's processes; lower hard limits of the daemon's stay.
    static let resourceLimits = [
        smi_rlimit(resource: 4, soft: 0, hard: 0),  // RLIMIT_CORE: a core would go to the host's handler
        smi_rlimit(resource: 7, soft: 1024, hard: 65536),  // RLIMIT_NOFILE
        smi_rlimit(resource: 8, soft: 8 << 20, hard: 8 << 20),  // RLIMIT_MEMLOCK
    ]

    /// Starts init and waits for its report that the program was exec'd.
    ///
    /// - Throws: `programNotFound`, `imageInvalid` (no smi-init), or the `SyscallError` of the step that failed; the child
    ///   is then gone.
    func start() throws -> (child: ChildProcess, started: ContinuousClock.Instant) {
        let configuration = try self.configuration()
        let (statusRead, statusWrite) = try DescriptorPassing.pipe()
        let child = try spawn(descriptors: [3: configuration, 4: statusWrite])
        let started = ContinuousClock.now
        statusWrite.close()
        do {
            try Self.check(try Self.readStatus(from: statusRead), program: spec.program)
        } catch {
            try? child.signal(SIGKILL)
            _ = try? child.wait()
            throw error
        }
        return (child, started)
    }

    /// smi-init's configuration in a memfd: nothing of it is ever in an argument or on disk inside.
    private func configuration() throws -> Descriptor {
        let bytes = InitConfiguration(secret: spec.secret, program: spec.program, environment: spec.environment)
            .encoded()
        let file = try DescriptorPassing.memoryFile("smi-init")
        try FileContents.writeAll(bytes, to: file)
        try syscall("lseek") { lseek(file.raw, 0, SEEK_SET) }
        return file
    }

    private static func readStatus(from pipe: Descriptor) throws -> InitStatus {
        let deadline = ContinuousClock.now + .seconds(30)
        var bytes: [UInt8] = []
        while true {
            var file = pollfd(fd: pipe.raw, events: Int16(POLLIN), revents: 0)
            guard poll(&file, 1, deadline.millisecondsLeft) != 0 else {
                throw IsolationError(
                    .timedOut,
                    cause: "smi-init did not report within 30 s",
                    remedy: "check the image's /sbin/smi-init"
                )
            }
            var chunk = [UInt8](repeating: 0, count: 64)
            let count = try syscall("read", "status") { read(pipe.raw, &chunk, chunk.count) }
            bytes += chunk[..<count]
            if count == 0 || bytes.count >= InitStatus.size { break }
        }
        guard let status = InitStatus(decoding: bytes) else {
            throw IsolationError(
                .imageInvalid,
                cause: "smi-init ended without a report",
                remedy: "check that the image's /sbin/smi-init is the one of this version of smirun"
            )
        }
        return status
    }

    private static func check(_ status: InitStatus, program: [String]) throws {
        switch status.stage {
        case .running:
            return
        case .exec:
            let name = program.first ?? ""
            let reason = String(cString: strerror(status.code))
            throw IsolationError(
                .programNotFound,
                cause: "the program \(name) cannot be started in the sandbox: \(reason)",
                remedy: "name a program of the image"
            )
        case .configuration, .setUp, .listen, .fork, .workingDirectory:
            throw IsolationError(
                .imageInvalid,
                cause: "smi-init failed (\(status.stage)): \(String(cString: strerror(status.code)))",
                remedy: "check the image and the sandbox's limits"
            )
        }
    }

    private func spawn(descriptors: [Int32: Descriptor]) throws -> ChildProcess {
        do {
            return try spawnChild(descriptors: descriptors)
        } catch {
            guard let failure = error as? SyscallError, failure.call == "execve", failure.code == ENOENT else {
                throw error
            }
            throw IsolationError(
                .imageInvalid,
                cause: "the image \(spec.image) has no \(Self.program)",
                remedy: "build the image again with this version of smirun"
            )
        }
    }

    private func spawnChild(descriptors: [Int32: Descriptor]) throws -> ChildProcess {
        let filter = try SeccompFilter.sandbox.get().program
        let unified = try cgroup.descriptor()
        let legacy = try cgroup.legacyDirectories.map { try Descriptor(open: $0 + "/tasks", O_WRONLY) }
        let masks = maskList()
        let strings = CStringArray(
            [rootfs.directory, "merged", SandboxRootfs.overlayOptions, spec.user]
                + masks.flatMap { [$0.path, $0.source] }
        )
        let entries = masks.indices.map { index in
            smi_mask(
                path: strings[4 + 2 * index],
                source: masks[index].source.isEmpty ? nil : UnsafePointer(strings[5 + 2 * index])
            )
        }
        return try withExtendedLifetime((strings, legacy, unified, descriptors)) {
            try entries.withTyped { entries in
                try Self.resourceLimits.withTyped { limits in
                    try filter.withUnsafeBytes { filter in
                        var sandbox = smi_sandbox(
                            directory: strings[0],
                            root: strings[1],
                            overlay_options: strings[2],
                            hostname: strings[3],
                            // SAFETY: neither list is empty, and a filter has instructions.
                            masks: entries.baseAddress.unsafelyUnwrapped,
                            mask_count: entries.count,
                            rlimits: limits.baseAddress.unsafelyUnwrapped,
                            rlimit_count: limits.count,
                            capabilities: CapabilitySet.sandbox.bits,
                            filter: filter.baseAddress.unsafelyUnwrapped,
                            filter_bytes: filter.count
                        )
                        return try spawn(&sandbox, unified, legacy, descriptors)
                    }
                }
            }
        }
    }

    private func spawn(
        _ sandbox: inout smi_sandbox,
        _ unified: Descriptor,
        _ legacy: [Descriptor],
        _ descriptors: [Int32: Descriptor]
    ) throws -> ChildProcess {
        let argv = CStringArray([Self.program])
        let envp = CStringArray([])
        let path = CStringArray([Self.program])
        let flags = [SMI_NEWPID, SMI_NEWNS, SMI_NEWUTS, SMI_NEWIPC, SMI_NEWTIME].reduce(UInt64(0)) {
            $0 | UInt64($1.rawValue)
        }
        let fds = descriptors.map { smi_fd_map(source: $0.value.raw, target: $0.key) }
        return try legacy.map(\.raw).withTyped { procs in
            try [namespace.descriptor.raw].withTyped { namespaces in
                try fds.withTyped { fds in
                    try withUnsafePointer(to: &sandbox) { sandbox in
                        var request = smi_spawn(
                            path: path[0],
                            argv: argv.constant,
                            envp: envp.constant,
                            directory: nil,
                            clone_flags: flags,
                            unshare_flags: UInt64(SMI_NEWCGROUP.rawValue),
                            cgroup_fd: unified.raw,
                            cgroup_tasks: procs.baseAddress,
                            cgroup_tasks_count: procs.count,
                            namespaces: namespaces.baseAddress,
                            namespaces_count: namespaces.count,
                            fds: fds.baseAddress,
                            fds_count: fds.count,
                            new_session: 1,
                            sandbox: sandbox
                        )
                        return try ChildProcess.spawn(&request, subject: Self.program)
                    }
                }
            }
        }
    }

    private func maskList() -> [(path: String, source: String)] {
        let present = ProcMasks.all.present
        return present.files.map { ($0, masks.file) } + present.directories.map { ($0, masks.directory) }
            + present.readOnly.map { ($0, "") }
    }
}
