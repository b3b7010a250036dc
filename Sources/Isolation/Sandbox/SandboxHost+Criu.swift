import Glibc
import LinuxSystem

extension SandboxHost {
    /// CRIU, found and checked once.
    func criu() throws -> CriuInstallation {
        try installation.withLock { found in
            if let found { return found }
            let installation = try CriuInstallation.find(paths: paths)
            found = installation
            return installation
        }
    }

    /// Ends a `criu swrk` that was started in advance.
    func closeCriu(_ user: String) {
        let service = open.withLock { entries in
            let service = entries[user]?.criu
            entries[user]?.criu = nil
            return service
        }
        service?.abandon()
    }

    /// The service started in advance, which serves one request; nil where there is none.
    func takeCriu(_ user: String) -> CriuService? {
        open.withLock { entries in
            let service = entries[user]?.criu
            entries[user]?.criu = nil
            return service
        }
    }

    /// The version 2 cgroup of helpers that must outlive the daemon.
    var auxiliaryCgroup: String? {
        CgroupTree(paths.cgroupRoot + "/aux", in: hierarchies).unified
    }

    private func startDumper(_ user: String, _ handle: ProcessHandle) throws -> CriuService {
        let namespace = try NetworkNamespace(of: handle.pid)
        let helpers = try auxiliaryCgroup.map { path throws(SyscallError) in
            try Descriptor(open: path, O_RDONLY | O_DIRECTORY)
        }
        return try CriuService.start(
            criu(),
            context: .dump(networkNamespace: namespace.descriptor, helpers: helpers, carry: paths.carry(user))
        )
    }

    /// Starts the source's CRIU in advance; `checkpoint` does it where this was not called.
    package func prepareCheckpoint(_ user: String) async throws {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("prepare to move \(user)") {
                guard open.withLock({ $0[user]?.criu == nil }) else { return }
                let service = try startDumper(user, runningInit(user))
                open.withLock { $0[user, default: Open()].criu = service }
            }
        }
    }

    /// Copies what a cut will want to know of mappings; `checkpoint` does it for the processes of which this has not.
    package func prepareCut(_ user: String, _ prepare: @escaping CarriedCut.Preparing) async throws {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("prepare to move \(user)") {
                // What an earlier dump left there would make CRIU leave out memory that nobody has.
                let carry = paths.carry(user)
                try Directories.removeTree(carry)
                try Directories.make(carry)
                prepare(try cgroup(user).sandboxed(), carry)
                open.withLock { $0[user, default: Open()].isCutPrepared = true }
            }
        }
    }

    /// Whether `prepareCut` was called for the cut that is made now; what it left is of no use for another.
    func takeCutPrepared(_ user: String) -> Bool {
        open.withLock { entries in
            let isPrepared = entries[user]?.isCutPrepared ?? false
            entries[user]?.isCutPrepared = false
            return isPrepared
        }
    }

    /// Freezes a sandbox, blocks its network and writes CRIU's images into `HostPaths.cut`.
    ///
    /// The sandbox stays frozen and blocked; after an error it runs as before and the error names the process and the
    /// reason.
    /// Memory that `carrying` takes care of is not in the images.
    package func checkpoint(_ user: String, carrying memory: CarriedCut?) async throws -> CheckpointReport {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("dump \(user)") {
                try Urgency.withQuickGracePeriods { try checkpointNow(user, memory) }
            }
        }
    }

    private func checkpointNow(_ user: String, _ memory: CarriedCut?) throws -> CheckpointReport {
        let spec = try knownSpec(user)
        let handle = try runningInit(user)
        let cgroup = try cgroup(user)
        try removeCut(user)
        try Directories.make(paths.cut(user))
        let carry = paths.carry(user)
        if !takeCutPrepared(user) { try Directories.removeTree(carry) }
        defer { try? Directories.removeTree(carry) }
        if let memory {
            try Directories.make(carry)
            memory.prepare(cgroup.sandboxed(), carry)
        }
        let service = try takeCriu(user) ?? startDumper(user, handle)
        var request = DumpRequest(user: user, pid: handle.pid, images: paths.cut(user))
        request.external = masks.externalMounts(of: ProcMasks.all.present)
        TerminalDescriptors.replaceAliases(sandbox: handle.pid)
        // Processes that a hand-off has slowed down would be slow to stop.
        try? cgroup.setProcessors(spec.limits.cpus)
        do {
            let report = try CheckpointAttempts.dump(
                request,
                service: service,
                restart: { try self.startDumper(user, handle) },
                onSeized: {
                    // The packet filter's commit waits for the kernel's readers, milliseconds; the processes are stopped.
                    _ = try alongside {
                        try self.network.filter.setBlocked(true, spec.address)
                    } _: {
                        try memory?.take(cgroup.sandboxed(), carry)
                    }
                },
                onDumped: { try cgroup.freeze() }
            )
            return CheckpointReport(report)
        } catch {
            LinkRemaps.remove(images: paths.cut(user), rootOf: handle.pid)
            try? network.filter.setBlocked(false, spec.address)
            try? cgroup.thaw()
            try? removeCut(user)
            throw error
        }
    }

    // MARK: The destination

    /// Makes at the destination what can exist before the cut: net namespace and link (blocked), rootfs, cgroups, CRIU.
    ///
    /// - Throws: as `launch`; nothing that the call made is left.
    package func stage(_ spec: SandboxSpec) async throws {
        try await locks.alone(spec.user) { [self] in
            try IsolationError.wrapping("prepare for \(spec.user)") { try stageNow(spec) }
        }
    }

    private func stageNow(_ spec: SandboxSpec) throws {
        let user = spec.user
        let cgroup = try cgroup(user)
        // A whole cut is one that this host took before its daemon ended: rootfs and images stay, to be restored now.
        let keepCut = hasWholeCut(user)
        try refuseRunning(user, cgroup, keepCut: keepCut)
        let isNew = !Directories.exists(paths.smi(user))
        do {
            if !keepCut { try rootfs(user).clear() }
            var timer = PhaseTimer()
            _ = try prepareRootfs(spec, &timer, fill: false)
            try Directories.make(paths.runtime(user))
            try cgroup.create(limits: spec.limits, devices: devicePolicy())
            let namespace = try network.attach(user, spec.address, blocked: true)
            open.withLock { $0[user, default: Open()].namespace = namespace }
            let service = try startRestorer(cgroup, namespace, inheritable: spec.limits.memory - Self.ownMemory)
            open.withLock { $0[user, default: Open()].criu = service }
        } catch {
            let isTaken = (error as? IsolationError)?.code == .addressTaken
            undoLaunch(spec, keepFiles: keepCut || !isNew, keepCut: keepCut, addressIsOurs: !isTaken)
            throw error
        }
    }

    /// What swrk itself takes of the sandbox's memory limit during a restore, at most, bytes.
    private static let ownMemory: Int64 = 32 << 20

    private func startRestorer(
        _ cgroup: SandboxCgroup,
        _ namespace: NetworkNamespace,
        inheritable: Int64 = 0
    ) throws -> CriuService {
        try CriuService.start(
            criu(),
            context: .restore(
                networkNamespace: namespace.descriptor,
                cgroup: cgroup.descriptor(),
                cgroupPath: cgroup.unified,
                legacyCgroups: cgroup.legacyDirectories,
                inheritable: max(0, inheritable)
            )
        )
    }

    /// Restores the sandbox from its cut; it ends frozen and blocked, and CRIU is gone.
    ///
    /// `onFrozen` is called once all processes are there, stopped and frozen.
    package func restore(
        _ user: String,
        onFrozen: @escaping @Sendable (@escaping @Sendable () -> [NamespacedPid]) -> Void
    ) async throws -> SandboxProcess {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("restore \(user)") {
                try Urgency.withQuickGracePeriods { try restoreNow(user, onFrozen) }
            }
        }
    }

    /// What the processes of a staged sandbox can inherit from the CRIU that waits for their restore.
    package func inheritance(_ user: String) async -> CriuInheritance? {
        open.withLock { $0[user]?.criu?.inheritance }
    }

    private func restoreNow(
        _ user: String,
        _ onFrozen: (@escaping @Sendable () -> [NamespacedPid]) -> Void
    ) throws -> SandboxProcess {
        var timer = PhaseTimer()
        let cgroup = try cgroup(user)
        guard let namespace = open.withLock({ $0[user]?.namespace }) else {
            throw IsolationError(
                .restoreFailed,
                cause: "nothing is prepared here for \(user)",
                remedy: "start the hand-off again"
            )
        }
        let rootfs = rootfs(user)
        try rootfs.makeDevices()
        try rootfs.mount()
        // Off the path that the sandbox waits on: taking a mount away waits for a grace period.
        defer { runOnThread { try? rootfs.unmount() } }
        timer.end("rootfs")
        let service = try takeCriu(user) ?? startRestorer(cgroup, namespace)
        var request = RestoreRequest(user: user, images: paths.cut(user), root: rootfs.merged)
        request.external = masks.externalMounts(of: ProcMasks.all.present)
        request.lazyPages = knownMemoryEpoch(user) != nil
        do {
            let report = try service.restore(request) { _ in
                // A cgroup that is frozen with swrk in it would never let swrk finish.
                try self.moveAside(service.child.pid)
                try cgroup.freeze()
                onFrozen { cgroup.sandboxed() }
            }
            timer.end("tasks", at: report.restored)
            timer.end("freeze", at: report.finished)
            return try restored(user, report.pid, &timer)
        } catch {
            try? cgroup.kill()
            throw error
        }
    }

    private func restored(_ user: String, _ pid: Int32, _ timer: inout PhaseTimer) throws -> SandboxProcess {
        guard let handle = try ProcessHandle(pid: pid) else {
            throw IsolationError(
                .restoreFailed,
                cause: "the restored init of \(user) has ended",
                remedy: "the hand-off is undone; `smirun events` has more"
            )
        }
        let process = SandboxProcess(pid: pid, startTime: handle.startTime, phases: timer.finish())
        try record(user).write(process)
        // CRIU made it our child.
        let child = ChildProcess(pid: pid, pidfd: handle.pidfd)
        open.withLock { $0[user] = Open(process: handle, child: child) }
        return process
    }

    /// Moves a process of the daemon's to where it outlives the daemon.
    package func moveAside(_ pid: Int32) throws(SyscallError) {
        guard let auxiliaryCgroup else { return }
        try FileContents.write("\(pid)", to: auxiliaryCgroup + "/cgroup.procs")
    }

    /// What in a sandbox could not be moved, before it matters.
    package func preflight(_ user: String) async throws -> [NotMovable] {
        try await offload { [self] in
            try IsolationError.wrapping("examine \(user)") {
                DumpPreflight.findings(sandbox: try runningInit(user).pid).map {
                    NotMovable(pid: $0.pid, name: $0.name, reason: $0.reason)
                }
            }
        }
    }
}

extension CheckpointReport {
    /// CRIU begins to stop processes when it is asked: counted from there, the freeze is an upper bound.
    init(_ report: DumpReport) {
        self.init(
            frozenAt: report.requested,
            phases: [
                "seize": report.requested.duration(to: report.seized),
                "dump": report.seized.duration(to: report.dumped),
                "detach": report.dumped.duration(to: report.finished),
            ],
            bytes: report.bytes
        )
    }
}
