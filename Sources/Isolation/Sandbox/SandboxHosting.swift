import LinuxSystem

/// What one host can do with sandboxes: the seam between isolation and orchestration.
///
/// `SandboxHost` is the real one; tests of the hand-off's logic use another. Every call throws `IsolationError`, and a
/// call that throws has undone what it began.
package protocol SandboxHosting: Sendable {
    /// Makes the host ready, once per start of the daemon: directories, cgroup parents, packet filter, forwarding, CRIU's
    /// cache. Leaves running sandboxes and their blocked links as they are.
    func prepare() async throws

    /// Makes a sandbox and starts it; returns once smi-init has started the program.
    func launch(_ spec: SandboxSpec) async throws -> SandboxProcess

    /// Everything that this host has of any sandbox, for adoption after a restart of the daemon.
    func survey() async throws -> [SandboxPresence]

    /// Ends what is left of a restore whose daemon died before it was done, if anything; a whole cut is kept.
    func endUnfinishedRestore(_ user: String) async throws -> Bool

    /// Takes over a sandbox found by `survey`, running or frozen, without changing which of the two it is.
    func adopt(_ user: String) async throws -> SandboxProcess

    /// Starts the source's CRIU in advance; `checkpoint` does it where this was not called.
    func prepareCheckpoint(_ user: String) async throws

    /// Freezes a sandbox, blocks its network and writes CRIU's images into `HostPaths.cut`. The sandbox stays frozen and
    /// blocked; after an error it runs as before and the error names the process and the reason. Memory that `carrying`
    /// takes care of is not in the images.
    func checkpoint(_ user: String, carrying memory: CarriedCut?) async throws -> CheckpointReport

    /// Has `prepare` copy what a cut will want to know of the processes' mappings, which takes the longer the more memory
    /// there is: before the last round, so that the program does not write meanwhile what the freeze then has to carry.
    func prepareCut(_ user: String, _ prepare: @escaping CarriedCut.Preparing) async throws

    /// CRIU's images as chunks of at most 256 KB, valid while the sandbox is frozen.
    func readCut(_ user: String) -> any ChunkSource

    /// The rootfs's writable layer as chunks of at most 256 KB, valid while the sandbox is frozen.
    func readUpper(_ user: String) -> any ChunkSource

    /// Makes at the destination what can exist before the cut: net namespace and link (blocked), overlay, cgroups, CRIU.
    func stage(_ spec: SandboxSpec) async throws

    /// Takes the images of a cut.
    func cutSink(_ user: String) async throws -> any ChunkSink

    /// Takes the writable layer of a cut; path traversal and device nodes in it are refused.
    func upperSink(_ user: String) async throws -> any ChunkSink

    /// Marks the cut as whole, so that it is found and restored again after a crash; `memoryEpoch` where its memory is in
    /// backing files, as that epoch.
    func sealCut(_ user: String, memoryEpoch: UInt64?) async throws

    /// The epoch of the backing files that belong to the cut that is here; nil where its images hold all memory.
    func memoryEpoch(ofCut user: String) async -> UInt64?

    /// Restores the sandbox from its whole cut; it ends frozen and blocked, and CRIU is gone. Where the cut's memory is in
    /// backing files, a page server listens at `HostPaths.pageSocket` already. `onFrozen` is called once all processes are
    /// there, stopped and frozen, with what lists them: what follows is CRIU's own end, which waits for its return.
    func restore(
        _ user: String,
        onFrozen: @escaping @Sendable (@escaping @Sendable () -> [NamespacedPid]) -> Void
    ) async throws -> SandboxProcess

    /// What the processes of a staged sandbox can inherit from the CRIU that waits for their restore; nil where none does.
    func inheritance(_ user: String) async -> CriuInheritance?

    /// Opens the network and thaws: after a commit, or as roll-back.
    func resume(_ user: String) async throws

    /// Freezes and blocks without dumping.
    func freeze(_ user: String) async throws

    /// Lets `body` stop a sandbox's processes for moments, while nothing else is done to it.
    func still(_ user: String, _ body: @escaping @Sendable (Stillness) async throws -> Void) async throws

    /// Lets a sandbox's processes have a share of the processor time that they take now; nil gives back what its
    /// specification says.
    func slow(_ user: String, to share: Double?) async throws

    /// Ends a sandbox's processes, link and cgroups, and keeps its files.
    func stop(_ user: String) async throws

    /// Ends a sandbox and removes everything it has on this host; also what a crash has left.
    func destroy(_ user: String) async throws

    /// Deletes the images of the cut in flight.
    func discardCut(_ user: String) async throws

    /// Returns when the sandbox's init has ended.
    func waitForExit(_ user: String) async throws

    /// The numbers of the sandbox's processes.
    func pids(_ user: String) async throws -> [NamespacedPid]

    /// Moves a process of the daemon's to where it outlives the daemon.
    func moveAside(_ pid: Int32) async throws

    /// The sandbox's processes as the host sees them.
    func processes(_ user: String) async throws -> [SandboxProcessInfo]

    /// What in a sandbox could not be moved, before it matters.
    func preflight(_ user: String) async throws -> [NotMovable]
}

extension SandboxHosting {
    /// A checkpoint with all memory in CRIU's images.
    package func checkpoint(_ user: String) async throws -> CheckpointReport {
        try await checkpoint(user, carrying: nil)
    }

    /// A restore that nothing follows before it is over.
    package func restore(_ user: String) async throws -> SandboxProcess {
        try await restore(user, onFrozen: { _ in })
    }

    /// Marks a cut as whole that holds all memory itself.
    package func sealCut(_ user: String) async throws {
        try await sealCut(user, memoryEpoch: nil)
    }
}

/// Memory that travels beside CRIU's images.
///
/// Both calls block the thread that CRIU is driven from.
package struct CarriedCut: Sendable {
    /// Takes the processes and the directory that CRIU's preload library looks into.
    package typealias Preparing = @Sendable ([NamespacedPid], String) -> Void

    /// Called before anything is stopped; processes that were prepared already need not be again.
    package var prepare: Preparing
    /// Called when every process is stopped and nothing has been dumped; again where a dump is tried again.
    package var take: @Sendable ([NamespacedPid], String) throws -> Void

    /// What is done before and inside the freeze.
    package init(
        prepare: @escaping Preparing,
        take: @escaping @Sendable ([NamespacedPid], String) throws -> Void
    ) {
        self.prepare = prepare
        self.take = take
    }
}

/// One process's number on the host and in the sandbox's pid namespace.
package struct NamespacedPid: Sendable, Hashable {
    /// As the host numbers it.
    package let outer: Int32
    /// As the sandbox numbers it.
    package let inner: Int32
}

/// Bytes in chunks, from a producer that does blocking work.
package protocol ChunkSource: Sendable {
    /// The next chunk, or nil at the end.
    func next() async throws -> [UInt8]?
}

/// Takes bytes in chunks; whatever is not finished leaves nothing visible.
package protocol ChunkSink: Sendable {
    /// Takes the next chunk.
    func write(_ chunk: [UInt8]) async throws
    /// Checks that the stream is whole and makes it visible.
    func finish() async throws
    /// Drops what was written.
    func abandon() async
}

/// One sandbox's init process on this host.
package struct SandboxProcess: Codable, Sendable, Equatable {
    /// pid on the host.
    package var pid: Int32
    /// Start time in clock ticks since boot (proc(5), field 22 of stat): with the pid it names the process for good.
    package var startTime: UInt64
    /// Milliseconds of each phase of the launch or restore.
    package var phases: [String: Double]

    /// A process and how it came to be.
    package init(pid: Int32, startTime: UInt64, phases: [String: Double] = [:]) {
        self.pid = pid
        self.startTime = startTime
        self.phases = phases
    }
}

/// What a host has of one sandbox.
package struct SandboxPresence: Sendable, Equatable {
    package var user: String
    /// Nil where only leftovers without a specification were found.
    package var spec: SandboxSpec?
    /// Processes in the sandbox's cgroup.
    package var processes: Int
    package var frozen: Bool
    /// Whether a whole cut is here.
    package var hasCut: Bool

    /// A finding of `survey`.
    package init(user: String, spec: SandboxSpec?, processes: Int, frozen: Bool, hasCut: Bool) {
        self.user = user
        self.spec = spec
        self.processes = processes
        self.frozen = frozen
        self.hasCut = hasCut
    }
}

/// What a checkpoint measured.
package struct CheckpointReport: Sendable {
    /// When the first process was stopped, on this host's clock.
    package var frozenAt: ContinuousClock.Instant
    /// Length of each phase.
    package var phases: [String: Duration]
    /// Size of CRIU's images, bytes.
    package var bytes: Int64

    /// A report.
    package init(frozenAt: ContinuousClock.Instant, phases: [String: Duration], bytes: Int64) {
        self.frozenAt = frozenAt
        self.phases = phases
        self.bytes = bytes
    }
}

/// One process of a sandbox.
package struct SandboxProcessInfo: Sendable, Equatable {
    package var hostPid: Int32
    /// pid inside the sandbox.
    package var pid: Int32
    /// Parent's pid inside the sandbox, 0 for init.
    package var parent: Int32
    package var name: String
    package var command: String
    /// One letter as in proc(5).
    package var state: String
    /// Resident memory, bytes.
    package var rss: Int64

    /// A process.
    package init(
        hostPid: Int32,
        pid: Int32,
        parent: Int32,
        name: String,
        command: String,
        state: String,
        rss: Int64
    ) {
        self.hostPid = hostPid
        self.pid = pid
        self.parent = parent
        self.name = name
        self.command = command
        self.state = state
        self.rss = rss
    }
}

/// Something in a sandbox that CRIU cannot dump.
package struct NotMovable: Sendable, Equatable {
    /// pid inside the sandbox.
    package var pid: Int32
    package var name: String
    /// Such as `io_uring instance, descriptor 7`.
    package var reason: String

    /// A finding.
    package init(pid: Int32, name: String, reason: String) {
        self.pid = pid
        self.name = name
        self.reason = reason
    }
}
