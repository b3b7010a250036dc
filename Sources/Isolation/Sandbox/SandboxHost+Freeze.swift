import LinuxSystem

extension SandboxHost {
    /// Freezes and blocks without dumping.
    package func freeze(_ user: String) async throws {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("freeze \(user)") {
                let spec = try knownSpec(user)
                try network.filter.setBlocked(true, spec.address)
                try cgroup(user).freeze()
            }
        }
    }

    /// Opens the network and thaws: after a commit, or as roll-back.
    ///
    /// The route comes first, then the block goes, then the processes run: none of them finds its network shut.
    package func resume(_ user: String) async throws {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("resume \(user)") {
                let spec = try knownSpec(user)
                // After a dump that comes to nothing: names that only the copy needed. None at a destination.
                if let handle = try? runningInit(user) {
                    LinkRemaps.remove(images: paths.cut(user), rootOf: handle.pid)
                }
                try network.routeHere(spec.address)
                let cgroup = try cgroup(user)
                try Urgency.withQuickGracePeriods {
                    try network.filter.open(spec.address) { try cgroup.thaw() }
                }
            }
        }
    }
}
