import Glibc
import LinuxSystem

extension SandboxHost {
    /// Makes a sandbox and starts it; returns once smi-init has started the program.
    ///
    /// - Throws: `sandboxExists`, `imageMissing`, `imageInvalid`, `addressTaken`, `programNotFound`, `diskFull`,
    ///   `hostUnsuitable`, `systemCall`. Nothing that the call made is left.
    package func launch(_ spec: SandboxSpec) async throws -> SandboxProcess {
        try await locks.alone(spec.user) { [self] in
            try IsolationError.wrapping("launch \(spec.user)") { try launchNow(spec) }
        }
    }

    private func launchNow(_ spec: SandboxSpec) throws -> SandboxProcess {
        var timer = PhaseTimer()
        let user = spec.user
        let cgroup = try cgroup(user)
        try refuseRunning(user, cgroup)
        let isNew = !Directories.exists(paths.smi(user))
        do {
            // The kernel's work for a network namespace takes as long as all the rest.
            let ((namespace, networkTime), rootfs) = try alongside {
                var own = PhaseTimer()
                let namespace = try self.network.attach(user, spec.address, blocked: false)
                own.end("network")
                return (namespace, own.phases)
            } _: {
                let rootfs = try prepareRootfs(spec, &timer)
                try cgroup.create(limits: spec.limits, devices: devicePolicy())
                timer.end("cgroup")
                return rootfs
            }
            timer.end("wait")
            timer.add(networkTime)
            let starter = SandboxStarter(spec: spec, rootfs: rootfs, cgroup: cgroup, namespace: namespace, masks: masks)
            let (child, started) = try starter.start()
            timer.end("start", at: started)
            timer.end("init")
            return try opened(user, child, &timer)
        } catch {
            undoLaunch(spec, keepFiles: !isNew, addressIsOurs: (error as? IsolationError)?.code != .addressTaken)
            throw error
        }
    }

    /// Mounts the base and makes the writable layer.
    ///
    /// `fill`: for a start; a sandbox that moves brings its own.
    func prepareRootfs(
        _ spec: SandboxSpec,
        _ timer: inout PhaseTimer,
        fill: Bool = true
    ) throws -> SandboxRootfs {
        let base = try imageLock.withLock { _ in
            let base = try images.mount(spec.image)
            // From here on `unmount(except:)` sees that the image is in use.
            try record(spec.user).write(spec)
            return base
        }
        timer.end("image")
        let rootfs = rootfs(spec.user)
        try rootfs.prepare(base: base)
        if fill {
            try rootfs.makeDevices()
            try rootfs.writeNames(user: spec.user, address: spec.address, resolvers: configuration.resolvers)
        }
        timer.end("rootfs")
        return rootfs
    }

    private func opened(_ user: String, _ child: ChildProcess, _ timer: inout PhaseTimer) throws -> SandboxProcess {
        guard let handle = try ProcessHandle(pid: child.pid) else {
            throw IsolationError(
                .sandboxDead,
                cause: "the sandbox of \(user) ended as soon as it was started",
                remedy: "`smirun logs \(user)` may tell why"
            )
        }
        let process = SandboxProcess(pid: child.pid, startTime: handle.startTime, phases: timer.finish())
        try record(user).write(process)
        open.withLock { $0[user] = Open(process: handle, child: child) }
        return process
    }

    /// Refuses a second sandbox of a user; clears what one that has ended or crashed left.
    func refuseRunning(_ user: String, _ cgroup: SandboxCgroup, keepCut: Bool = false) throws {
        if !cgroup.sandboxed().isEmpty {
            throw IsolationError(
                .sandboxExists,
                cause: "a sandbox of \(user) runs on this host already",
                remedy: "attach to it, or remove it first (`smirun rm \(user)`)"
            )
        }
        if cgroup.tree.exists || Directories.exists(paths.runtime(user)) { try end(user, keepCut: keepCut) }
    }

    func undoLaunch(_ spec: SandboxSpec, keepFiles: Bool, keepCut: Bool = false, addressIsOurs: Bool) {
        try? end(spec.user, address: addressIsOurs ? spec.address : nil, keepCut: keepCut)
        if !keepFiles { try? Directories.removeTree(paths.smi(spec.user)) }
        unmountUnusedImages()
    }
}
