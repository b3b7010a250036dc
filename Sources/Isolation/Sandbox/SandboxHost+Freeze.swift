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

    /// Lets `body` stop a sandbox's processes for moments, while nothing else is done to it.
    ///
    /// Its network stays open: packets wait a millisecond for a process that is stopped, as for one that has no processor.
    package func still(_ user: String, _ body: @escaping @Sendable (Stillness) async throws -> Void) async throws {
        try await locks.whileAlone(user) {
            let directory = try cgroup(user).unified
            try await body(try Stillness(cgroup: directory))
        }
    }

    /// Lets a sandbox's processes have a share of the processor time that they take now; nil gives back what its
    /// specification says.
    package func slow(_ user: String, to share: Double?) async throws {
        let before = share == nil ? nil : try cgroup(user).processorTime
        let start = ContinuousClock.now
        if before != nil { try await Task.sleep(for: Self.usageSample) }
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("slow \(user) down") {
                let (spec, cgroup) = (try knownSpec(user), try cgroup(user))
                guard let share, let before else { return try cgroup.setProcessors(spec.limits.cpus) }
                let passed = start.duration(to: .now) / .seconds(1)
                let taken = (cgroup.processorTime - before) / passed
                try cgroup.setProcessors(min(spec.limits.cpus, max(taken, 0.001) * share))
            }
        }
    }

    /// How long a look at what processor time a sandbox takes lasts.
    private static let usageSample = Duration.milliseconds(300)
}
