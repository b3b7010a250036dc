import Glibc
import LinuxSystem

extension SandboxHost {
    /// Ends a sandbox's processes, link and cgroups, and keeps its files.
    package func stop(_ user: String) async throws {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("stop \(user)") {
                try end(user)
                unmountUnusedImages()
            }
        }
    }

    /// Ends a sandbox and removes everything it has on this host; also what a crash has left.
    ///
    /// Nothing there is no error.
    package func destroy(_ user: String) async throws {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("remove \(user)") {
                try end(user)
                try Directories.removeTree(paths.smi(user))
                unmountUnusedImages()
            }
        }
    }

    /// Removes all of a sandbox but its files.
    ///
    /// Every step is tried; the first failure is thrown. `address`: where the specification is not on disk any more; else
    /// taken from there, or from the link. `keepCut` leaves a whole cut where it is.
    func end(_ user: String, address: SandboxAddress? = nil, keepCut: Bool = false) throws {
        var failure: (any Error)?
        func attempt(_ step: () throws -> Void) {
            do { try step() } catch { failure = failure ?? error }
        }
        let cgroup = try cgroup(user)
        closeCriu(user)
        let known = open.withLock { $0.removeValue(forKey: user) }
        attempt { try cgroup.kill() }
        // Its own children must be reaped, or their numbers stay taken.
        if let child = known?.child { attempt { if try child.hasEnded(within: 1000) { _ = try child.wait() } } }
        attempt {
            let spec = record(user).spec()
            guard let address = try address ?? spec?.address ?? linkedAddress(user) else { return }
            try network.detach(user, address)
        }
        attempt {
            guard cgroup.remove() else {
                throw IsolationError(
                    .timedOut,
                    cause: "the cgroup \(cgroup.tree.path) is busy",
                    remedy: "remove the SMI again; `cat \(cgroup.unified)/cgroup.procs` names the processes"
                )
            }
        }
        attempt { try rootfs(user).unmount() }
        if keepCut && hasWholeCut(user) {
            record(user).forgetProcess()
        } else {
            attempt { try Directories.removeTree(paths.runtime(user)) }
        }
        if let failure { throw failure }
    }

    /// The address of a sandbox of which nothing but the link is left.
    private func linkedAddress(_ user: String) throws -> SandboxAddress? {
        guard let name = try SandboxNetwork.links()[user], let index = Int(name.dropFirst("smi".count)) else {
            return nil
        }
        return SandboxAddress(index: index)
    }

    /// Unmounts base images that no sandbox of this host needs.
    func unmountUnusedImages() {
        imageLock.withLock { _ in
            let users = Directories.entries(of: paths.state + "/smis")
            images.unmount(except: Set(users.compactMap { record($0).spec()?.image }))
        }
    }
}
